"""Crash bundles."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.diverging import (
    Change,
    Poke,
    Training,
)
from tests.helpers.guards import divergence_message


def make_bundle(folder: Path, change: Change, *overrides: str) -> Path:
    divergence_message(Training(folder, *overrides, callbacks=(Poke(change, 7),)))
    (file,) = (folder / "crash").iterdir()
    return file
