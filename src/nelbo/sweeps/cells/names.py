"""Names of cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nelbo.files import short_name

SHORT = 8


def directory_name(overrides: str) -> str:
    """Overrides as a name that any file system and TensorBoard's run list take."""
    return short_name(re.sub(r"[^\w.,=+-]+", "_", overrides)) or "defaults"


def cell_name(job: Sequence[str], swept: Sequence[str], identity: str) -> str:
    """What differs in this cell, for people, and its identity, so that no two share a directory."""
    told = [override for override in job if override.partition("=")[0] in swept]
    return f"{directory_name(','.join(told))}-{identity[:SHORT]}"
