"""Crash bundles."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.diverging import (
    Change,
    Poke,
    Training,
)
from tests.helpers.guards import stopped


def make_bundle(folder: Path, change: Change, *overrides: str) -> Path:
    stopped(Training(folder, *overrides, callbacks=(Poke(change, 7),)))
    (file,) = (folder / "crash").iterdir()
    return file
