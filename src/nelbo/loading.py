"""Checkpoints and run directories back to models: no Hydra, no Trainer, no data, no pickled classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nelbo.build import MODEL_PREFIXES, build
from nelbo.errors import CheckpointError, ConfigError, first_line
from nelbo.models import VAE

RECORD = "nelbo"
"""The checkpoint's key for what a model needs to be built again, in plain containers."""

FORMAT = 1


def load(path: str | Path) -> VAE:
    """The model of a run directory (its best.ckpt) or of a checkpoint, in eval mode, on the CPU.

    Args:
        path: a run directory, or a checkpoint in it.

    Raises:
        CheckpointError: if there is none, or it was not written by nelbo, or it is damaged.
    """
    file = checkpoint_file(path)
    return build_model(read_checkpoint(file), file)


def build_model(checkpoint: Mapping[str, Any], file: Path) -> VAE:
    """The model of a checkpoint that was read from `file`, in eval mode, on the CPU.

    Raises:
        CheckpointError: if it cannot be built.
    """
    try:
        model = build(checkpoint[RECORD]["model"], "model", MODEL_PREFIXES)
    except ConfigError as error:
        raise CheckpointError(f"{file}: its model cannot be built: {error}") from error
    prefix = "model."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its tensors do not fit its model: {first_line(error)}") from error
    model.advance(math.inf)  # a schedule that training did not finish: its figures are for the final values too
    return model.eval()  # type: ignore[no-any-return]


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


def checkpoint_file(path: str | Path) -> Path:
    """The file that `path` means: itself, or a run directory's checkpoints/best.ckpt.

    Raises:
        CheckpointError: if there is no such file.
    """
    if "://" in str(path):
        raise CheckpointError(f"{path}: checkpoints are read from local files only; download it first")
    file = Path(path)
    if file.is_dir():
        file = file / "checkpoints" / "best.ckpt"
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint; give a run directory or a .ckpt file")
    return file


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The plain containers and tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: if it is damaged or was not written by nelbo.
    """
    try:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes of a stranger's file happen to mean to an unpickler
        raise CheckpointError(f"{file}: not a readable checkpoint: {first_line(error)}") from error
    record = checkpoint.get(RECORD) if isinstance(checkpoint, dict) else None
    if not isinstance(record, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{file}: not written by nelbo (it holds no {RECORD!r} record)")
    if record.get("format") != FORMAT:
        raise CheckpointError(f"{file}: has format {record.get('format')}, this nelbo reads {FORMAT}")
    return checkpoint  # type: ignore[no-any-return]
