"""Removal of a run's files when it has ended, of runs that only show that their config works."""

from __future__ import annotations

import contextlib
from pathlib import Path

from nelbo.directories.logs import LIST, logs
from nelbo.directories.names import CHECKPOINTS, MARK, WRITTEN

FOLDERS = (CHECKPOINTS, "pictures", "csv", "tensorboard")
"""Folders of a run, which are removed if nothing else is in them."""


def discard(folder: Path) -> None:
    """Remove the files that a run has written, except train.log and those of services such as MLflow.

    Only the process that holds the lock of the directory may call this.

    Args:
        folder: the run's directory.
    """
    files = [*logs(folder), *(folder / CHECKPOINTS).glob("*.ckpt"), *(folder / name for name in (*WRITTEN, LIST, MARK))]
    for file in files:
        if file.is_file():
            file.unlink()
    for name in FOLDERS:
        with contextlib.suppress(OSError):  # of other files in it, or because there is none
            (folder / name).rmdir()
