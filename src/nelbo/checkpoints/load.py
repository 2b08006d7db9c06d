"""Loading of models from checkpoints and run directories, without Hydra, Lightning, data or pickled classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nelbo.checkpoints.container import short
from nelbo.checkpoints.hub import Reference, download, is_reference
from nelbo.checkpoints.record import (
    AVERAGED,
    RECORD,
    WEIGHTS,
    checkpoint_file,
    read_checkpoint,
    value_range,
    weights_of,
)
from nelbo.config.build import (
    IN_CONFIGS,
    IN_PYTHON,
    MODEL_PREFIXES,
    RefusedTarget,
    build,
    user_prefixes,
)
from nelbo.errors import CheckpointError, ConfigError, choice, first_line
from nelbo.models import Model


def load(path: str | Path, *, allow: Sequence[str] = (), weights: str = AVERAGED) -> Model:
    """Load the model of a run directory (its best.ckpt) or of a checkpoint, in eval mode, onto the CPU.

    Args:
        path: a run directory, or a checkpoint in it; or `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION` for a model on
            the Hugging Face Hub that `nelbo push` wrote, of which only `model.safetensors` is downloaded and read.
        allow: packages outside nelbo whose classes the model uses, such as `("mypackage.",)`. The checkpoint can then
            import and call anything in these packages with any arguments, so name only packages in which you would let
            the author of the checkpoint run code.
        weights: of a run that averaged its weights (`averaging=ema`), `averaged` for the average, which its results are
            those of, or `raw` for the weights of the last step. Other runs have one kind of weights.

    Raises:
        CheckpointError: if the checkpoint is missing, damaged or not written by nelbo.
        ConfigError: if `allow` is not a list of packages, or `weights` is neither of the two.
        NelboError: if the hub has no such model, or cannot be reached.

    Example:
        >>> import nelbo
        >>> vae = nelbo.load("tests/checkpoints/format-2/mlp_vae.ckpt")
        >>> vae.generate(6).mean.shape  # 6 images of 1 channel and 8 x 8 pixels
        torch.Size([6, 1, 8, 8])
    """
    choice("weights", weights, WEIGHTS)
    file = download(Reference.read(path, "path")) if is_reference(path) else checkpoint_file(path)
    checkpoint = read_checkpoint(file)
    return build_model({**checkpoint, "state_dict": weights_of(checkpoint, weights)}, file, allow, how=IN_PYTHON)


def build_model(
    checkpoint: Mapping[str, Any], file: Path, allow: Sequence[str] = (), *, how: str = IN_CONFIGS
) -> Model:
    """Build the model of a checkpoint that has been read, in eval mode, on the CPU.

    Args:
        checkpoint: the checkpoint's content.
        file: its path, for errors.
        allow: packages outside nelbo whose classes the model may use.
        how: how the caller's user sets `allow`, for the error about a package that is not allowed.

    Raises:
        CheckpointError: if the model cannot be built.
    """
    allowed = (*MODEL_PREFIXES, *user_prefixes("allow", allow))
    try:
        model = build(checkpoint[RECORD].get("model"), "model", allowed)
    except RefusedTarget as error:
        refusal = RefusedTarget(error.key, error.name, how)
        raise CheckpointError(f"{file}: its model cannot be built: {short(refusal)}") from error
    except ConfigError as error:
        raise CheckpointError(f"{file}: its model cannot be built: {short(error)}") from error
    except Exception as error:  # arbitrary values make torch raise any kind of exception
        raise CheckpointError(f"{file}: its model cannot be built: {type(error).__name__}: {short(error)}") from error
    if not isinstance(model, Model):
        raise CheckpointError(f"{file}: describes a {type(model).__name__}, not a model")
    prefix = "model."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its tensors do not fit its model: {first_line(error)}") from error
    model.checks_pixels, model.value_range = True, value_range(checkpoint[RECORD], file)
    model.advance(math.inf)  # results are for the schedules' final values, even where training ended before them
    return model.eval()
