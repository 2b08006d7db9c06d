"""Checkpoints and run directories back to models: no Hydra, no Trainer, no data, no pickled classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nelbo.checkpoints.container import short
from nelbo.checkpoints.record import RECORD, checkpoint_file, read_checkpoint
from nelbo.config.build import (
    IN_CONFIGS,
    IN_PYTHON,
    MODEL_PREFIXES,
    RefusedTarget,
    build,
    user_prefixes,
)
from nelbo.errors import CheckpointError, ConfigError, first_line
from nelbo.models import VAE


def load(path: str | Path, *, allow: Sequence[str] = ()) -> VAE:
    """The model of a run directory (its best.ckpt) or of a checkpoint, in eval mode, on the CPU.

    Args:
        path: a run directory, or a checkpoint in it.
        allow: packages of your own whose classes the model is made of, such as `("mypackage.",)`. A checkpoint can then
            import and call anything in them, with arguments of its choice: name only what you would let a stranger run.

    Raises:
        CheckpointError: if there is none, or it was not written by nelbo, or it is damaged.
        ConfigError: if `allow` is not a list of packages.
    """
    file = checkpoint_file(path)
    return build_model(read_checkpoint(file), file, allow, how=IN_PYTHON)


def build_model(checkpoint: Mapping[str, Any], file: Path, allow: Sequence[str] = (), *, how: str = IN_CONFIGS) -> VAE:
    """The model of a checkpoint that was read from `file`, in eval mode, on the CPU.

    Args:
        checkpoint: its content.
        file: where it lies.
        allow: packages that it may be made of beside our own.
        how: the caller's way to say `allow`, for the message that refuses another package.

    Raises:
        CheckpointError: if it cannot be built.
    """
    allowed = (*MODEL_PREFIXES, *user_prefixes("allow", allow))
    try:
        model = build(checkpoint[RECORD].get("model"), "model", allowed)
    except RefusedTarget as error:
        refused = RefusedTarget(error.key, error.name, how)
        raise CheckpointError(f"{file}: its model cannot be built: {short(refused)}") from error
    except ConfigError as error:
        raise CheckpointError(f"{file}: its model cannot be built: {short(error)}") from error
    except Exception as error:  # whatever a stranger's numbers mean to torch
        raise CheckpointError(f"{file}: its model cannot be built: {type(error).__name__}: {short(error)}") from error
    if not isinstance(model, VAE):
        raise CheckpointError(f"{file}: what it holds is not a model but a {type(model).__name__}")
    prefix = "model."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its tensors do not fit its model: {first_line(error)}") from error
    model.checks_pixels = True
    model.advance(math.inf)  # a schedule that training did not finish: its figures are for the final values too
    return model.eval()
