"""How checkpoints are written and read: whole or not at all, and never as anything but plain containers and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from nelbo.checkpoints.container import check_plain
from nelbo.checkpoints.record import read_checkpoint
from nelbo.errors import NelboError, Stopped
from nelbo.files import DISK_ERRORS, atomic


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the old file, fsyncs and renames; reads what `nelbo.load` would read.

    A checkpoint is a zip archive with the CRC of each of its entries; `read_checkpoint` compares them.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write.

        Raises:
            NelboError: if the disk refuses; an older checkpoint of that name is still there.
            CheckpointError: if something in it is no plain data, so that it could not be read again.
        """
        file = Path(path)
        check_plain(checkpoint, file)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic(file) as stream:
                torch.save(checkpoint, stream)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__context__  # torch wraps what its stream raises
            if isinstance(cause, Stopped):  # asked a second time: now
                raise cause from error
            if not isinstance(cause, OSError) or cause.errno not in DISK_ERRORS:
                raise
            hint = "the last one is untouched: make room, and go on with resume=auto"
            raise NelboError(f"{file}: cannot be written ({cause.strerror}); {hint}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read; always with `weights_only=True`, onto the CPU.

        Raises:
            CheckpointError: if it is damaged or not ours.
        """
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove."""
        Path(path).unlink(missing_ok=True)
