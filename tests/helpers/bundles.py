"""Crash bundles of diverging runs."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.diverging import Change, Poke, Training
from tests.helpers.guards import divergence_message


def make_bundle(folder: Path, change: Change, *overrides: str) -> Path:
    """Train until `change` at step 7 makes the run diverge, and return the crash bundle that it writes."""
    divergence_message(Training(folder, *overrides, callbacks=(Poke(change, 7),)))
    (file,) = (folder / "crash").iterdir()
    return file
