"""What a command that cannot run prints, and the metrics of a run."""

from __future__ import annotations

import json
from pathlib import Path

TROUBLE = ("warning", "deprecat", "traceback")


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())
