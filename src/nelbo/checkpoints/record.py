"""What nelbo writes into a checkpoint beside its tensors, and the one function that reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from nelbo.checkpoints.container import local, read_plain, short
from nelbo.errors import CheckpointError, DamagedCheckpoint

RECORD = "nelbo"
"""The checkpoint's key for what a model needs to be built again, in plain containers."""


FORMAT = 2
"""Of new checkpoints. 2 has, beside what 1 had, what is needed to resume exactly."""


FORMATS = (1, 2)
"""Those that load."""


def provenance(path: str | Path) -> dict[str, Any]:
    """The data, protocol, split and checksum that a run directory's or checkpoint's model was trained on.

    Raises:
        CheckpointError: if there is none, or it was not written by nelbo, or does not say.
    """
    file = checkpoint_file(path)
    found = read_checkpoint(file)[RECORD].get("provenance")
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: does not say what data it was trained on; train it again")
    return found


def checkpoint_file(path: str | Path, key: str = "") -> Path:
    """The file that `path` means: itself, or a run directory's checkpoints/best.ckpt.

    Args:
        path: it.
        key: behind which it was typed, if it was: an error names both.

    Raises:
        CheckpointError: if there is no such file.
    """
    file = local(path)
    typed = f"{key}={path}" if key else str(path) or repr("")
    try:
        if file.is_dir():
            file = (file.parent if file.name == "checkpoints" else file) / "checkpoints" / "best.ckpt"
        if not str(path) or not file.is_file():
            where = f"{typed}: " if key and str(path) not in ("", str(file)) else ""
            named = file if where or (str(path) and not key) else typed
            raise CheckpointError(f"{where}{named}: no such checkpoint; give a run directory or a .ckpt file")
    except OSError as error:  # too long a name, or a directory that one may not look into
        raise CheckpointError(f"{typed if key else file}: no such checkpoint: {error.strerror}") from error
    return file


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint: the one way in which any is read.

    Raises:
        CheckpointError: as `read_plain` does, or if it was not written by nelbo, or by a later version.
    """
    checkpoint = read_plain(path)
    if type(checkpoint) is not dict or type(checkpoint.get(RECORD)) is not dict or "state_dict" not in checkpoint:
        raise DamagedCheckpoint(f"{path}: not written by nelbo (it holds no {RECORD!r} record)")
    record, state = checkpoint[RECORD], checkpoint["state_dict"]
    if type(found := record.get("format")) is not int or found not in FORMATS:
        readable = " and ".join(map(str, FORMATS))
        raise CheckpointError(
            f"{path}: has format {short(found)}, this nelbo reads {readable}; a later one may read it"
        )
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise DamagedCheckpoint(f"{path}: its state_dict is not names and tensors")
    return checkpoint
