"""Signs of trouble in the output of a command, and the metrics of a run."""

from __future__ import annotations

import json
from pathlib import Path

TROUBLE = ("warning", "deprecat", "traceback")
"""Substrings, in lower case, that the output of a successful command must not contain."""


def metrics_of(folder: Path) -> dict[str, float]:
    """Return the contents of metrics.json."""
    return json.loads((folder / "metrics.json").read_text())
