"""Directories of runs and their contents."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import SMALL

ONE_EPOCH = ["trainer.max_epochs=1"]


def start_run(folder: Path, *overrides: str) -> Done:
    """Train one epoch in `folder`."""
    chosen = (*SMALL, *ONE_EPOCH, *overrides, f"hydra.run.dir={folder}")
    return forked("tests/helpers/stopping.py", "nowhere:0:SIGTERM", *chosen)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file but Hydra's, whose log and record contain the command."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files if path.name != "train.log"}
