"""Lightning's interface to checkpoint files: atomic writes, and reading of plain containers and tensors only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import CheckpointIO

from nelbo.checkpoints.container import write_plain
from nelbo.checkpoints.record import read_checkpoint
from nelbo.errors import NelboError
from nelbo.files import DISK_ERRORS


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoint files that are complete or absent.

    Writing goes to a temporary file in the same folder, which is fsynced and then renamed. Reading goes through
    `read_checkpoint`, as in `nelbo.load`, which verifies the CRC of every entry of the zip archive.
    """

    def __init__(self) -> None:
        self.held: dict[Path, dict[str, Any]] = {}

    def hold(self, path: str | Path, checkpoint: dict[str, Any]) -> None:
        """Hold the content of a file that `read_checkpoint` has read, for the next `load_checkpoint` of that file."""
        self.held[Path(path)] = checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Raises:
            NelboError: if the disk is full or not writable; an existing file of that name is then unchanged.
            CheckpointError: if the checkpoint holds anything but plain data, which could not be read back.
        """
        file = Path(path)
        try:
            write_plain(checkpoint, file)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            hint = "the previous checkpoint is unchanged: free some space, then resume with resume=auto"
            raise NelboError(f"{file}: cannot be written ({error.strerror}); {hint}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, always with `weights_only=True`, or return it if it is held.

        Raises:
            CheckpointError: if it is damaged or not written by nelbo.
        """
        held = self.held.pop(Path(path), None)
        return read_checkpoint(path) if held is None else held

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint; it may be missing."""
        Path(path).unlink(missing_ok=True)
