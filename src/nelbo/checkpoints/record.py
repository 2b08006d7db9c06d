"""The record that nelbo stores in a checkpoint beside the tensors, and the function that reads every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nelbo.checkpoints.container import local, read_plain, short
from nelbo.checkpoints.tensors_file import SUFFIX, read_tensors
from nelbo.errors import CheckpointError, DamagedCheckpoint

RECORD = "nelbo"
"""Key of the record in a checkpoint. The record describes, in plain containers, how to rebuild the model."""

AVERAGING = "averaging"
"""Key of a checkpoint whose `state_dict` has averaged weights: `updates`, their number, and `raw`, the raw weights.

`raw` has the names of those tensors only that are averaged. Other checkpoints lack the key.
"""

AVERAGED, RAW = WEIGHTS = ("averaged", "raw")
"""The two kinds of weights that a checkpoint may hold."""

FOLDED = "folded"
"""Key of the record of a model that was trained for many settings and folded at one (`nelbo.finished.fold`).

It has the setting, `at`, and the name and SHA-256 of the checkpoint with all settings, `checkpoint` and
`checkpoint_sha256`. Other records lack the key.
"""

VALUE_RANGE = "value_range"
"""Key of the record of a model of real-valued data: [low, high], which pictures show as black and white.

Other records lack the key; their data lie in [0, 1].
"""

LARGEST = 1e300
"""The largest value of a setting that is read from a record."""

FORMAT = 2
"""Format number of new checkpoints; format 2 adds the state needed to resume a run exactly."""

FORMATS = (1, 2)
"""Format numbers that can be read."""


def provenance(path: str | Path) -> dict[str, Any]:
    """Return what data the model of a run directory or checkpoint was trained on: name, protocol, split, checksum.

    Raises:
        CheckpointError: if the checkpoint is missing, damaged, not written by nelbo, or does not store this.

    Example:
        >>> provenance("tests/checkpoints/format-2/mlp_vae.ckpt")["data"]
        'digits'
    """
    file = checkpoint_file(path)
    content = read_checkpoint(file)[RECORD].get("provenance")
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: does not say what data it was trained on; train it again")
    return content


def checkpoint_file(path: str | Path, key: str = "") -> Path:
    """Return the checkpoint that `path` refers to: the file itself, or checkpoints/best.ckpt of a run directory.

    Args:
        path: a checkpoint, a run directory, or the folder `checkpoints` in one.
        key: the command-line key whose value is `path`, for errors; empty if it is not from a command line.

    Raises:
        CheckpointError: if there is no such file.
    """
    file = local(path)
    argument = f"{key}={path}" if key else str(path) or repr("")
    try:
        if file.is_dir():
            file = (file.parent if file.name == "checkpoints" else file) / "checkpoints" / "best.ckpt"
        if not str(path) or not file.is_file():
            prefix = f"{argument}: " if key and str(path) not in ("", str(file)) else ""
            name = file if prefix or (str(path) and not key) else argument
            raise CheckpointError(f"{prefix}{name}: no such checkpoint; give a run directory or a .ckpt file")
    except OSError as error:  # the name is too long, or the directory is not accessible
        raise CheckpointError(f"{argument if key else file}: no such checkpoint: {error.strerror}") from error
    return file


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read and check a checkpoint. All checkpoints are read through this function.

    Raises:
        CheckpointError: as `read_plain` does, and if it was not written by nelbo or has an unknown format.
    """
    file = local(path)
    checkpoint = read_tensors(file) if file.suffix == SUFFIX else read_plain(path)
    if type(checkpoint) is not dict or type(checkpoint.get(RECORD)) is not dict or "state_dict" not in checkpoint:
        raise DamagedCheckpoint(f"{path}: not written by nelbo (it holds no {RECORD!r} record)")
    record, state = checkpoint[RECORD], checkpoint["state_dict"]
    if type(number := record.get("format")) is not int or number not in FORMATS:
        readable = " and ".join(map(str, FORMATS))
        raise CheckpointError(
            f"{path}: has format {short(number)}, this nelbo reads {readable}; a newer version may read it"
        )
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise DamagedCheckpoint(f"{path}: its state_dict is not names and tensors")
    if AVERAGING in checkpoint and not _is_averaging(checkpoint[AVERAGING], state):
        raise DamagedCheckpoint(f"{path}: its raw weights do not fit its averaged ones")
    return checkpoint


def value_range(record: Mapping[str, Any], file: Path) -> tuple[float, float] | None:
    """Return the values that pictures show as black and white of a model of real-valued data; None for x in [0, 1].

    Args:
        record: the record of a checkpoint.
        file: its path, for the error.

    Raises:
        DamagedCheckpoint: if the record has an invalid entry `VALUE_RANGE`.
    """
    stored = record.get(VALUE_RANGE)
    if stored is None:
        return None
    if isinstance(stored, list) and len(stored) == 2 and all(type(value) is float for value in stored):
        low, high = stored
        if -LARGEST < low < high < LARGEST:
            return low, high
    raise DamagedCheckpoint(f"{file}: its entry {VALUE_RANGE} is not two ascending numbers")


def folded_at(record: Mapping[str, Any], file: Path) -> dict[str, float]:
    """Return the setting that a model was folded at, such as `{"beta": 0.5, "latent_dim": 8}`; empty for other models.

    Args:
        record: the record of a checkpoint.
        file: its path, for the error.

    Raises:
        DamagedCheckpoint: if the record has an invalid entry `FOLDED`.
    """
    folded = record.get(FOLDED, {"at": {}})
    at = folded.get("at") if isinstance(folded, dict) else None
    if not isinstance(at, dict) or not all(
        key in ("beta", "latent_dim") and type(value) in (int, float) and 0 < value <= LARGEST
        for key, value in at.items()
    ):
        raise DamagedCheckpoint(f"{file}: its record of the setting that it was folded at is invalid")
    return at


def weights_of(checkpoint: Mapping[str, Any], kind: str = AVERAGED) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, with averaged or with raw weights; most checkpoints have one kind.

    Args:
        checkpoint: the result of `read_checkpoint`.
        kind: `averaged` for the weights that evaluation uses, `raw` for those that training continues with.
    """
    raw = checkpoint[AVERAGING]["raw"] if kind == RAW and AVERAGING in checkpoint else {}
    return {**checkpoint["state_dict"], **raw}


def _is_averaging(content: object, state: Mapping[str, Tensor]) -> bool:
    """Return whether the content of `AVERAGING` is valid beside a `state_dict`."""
    if not isinstance(content, dict) or content.keys() != {"updates", "raw"}:
        return False
    updates, raw = content["updates"], content["raw"]
    return (type(updates) is int and updates >= 0 and isinstance(raw, dict)) and all(
        isinstance(value, Tensor) and name in state and state[name].shape == value.shape for name, value in raw.items()
    )
