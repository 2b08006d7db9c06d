"""Hydra's private interfaces and what differs between its versions 1.3 and 1.4."""

from __future__ import annotations

import hydra


def hydra_options() -> dict[str, str]:
    """Hydra 1.3 asks for a version_base and 1.4 warns about one: this is the one place that decides."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}
