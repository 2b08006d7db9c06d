"""Checks of the images, or vectors, that are passed to a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.errors import ConfigError, positive_integer

VECTORS_HINT = (
    "convolutions need images of shape [channels, height, width]; of vectors use model=mlp_vae, residual_mlp_vae, "
    "linear_vae or ladder_vae"
)


def image_shape(shape: object) -> tuple[int, ...]:
    """Return the shape of a config, (C, H, W) of images or (D,) of vectors, after checking it.

    Raises:
        ConfigError: if it is neither three positive integers nor one.
    """
    if not isinstance(shape, list | tuple) or len(shape) not in (1, 3):
        raise ConfigError("shape", shape, "must be [channels, height, width], or [numbers] for vectors")
    return tuple(positive_integer(f"shape[{index}]", size) for index, size in enumerate(shape))


def check_is_image(shape: Sequence[int]) -> None:
    """Check that a shape is that of images, for models that are made of convolutions.

    Raises:
        ConfigError: if it is that of vectors.
    """
    if len(shape) == 1:
        raise ConfigError("shape", list(shape), VECTORS_HINT)


def check_form(x: object, shape: Sequence[int], *, bounded: bool = True) -> None:
    """Check type, shape and dtype of images, without reading their pixels.

    Args:
        x: images, (B, C, H, W), or vectors, (B, D).
        shape: (C, H, W) of the model, or (D,).
        bounded: whether its pixels lie in [0, 1], for messages.

    Raises:
        ValueError: if `x` is not a floating-point tensor of that shape.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"expected images as a torch.Tensor, got {type(x).__name__}: torch.as_tensor(x)")
    if x.shape[1:] != shape:
        raise ValueError(f"expected images of shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        hint = "x.float() / 255" if x.dtype == torch.uint8 else "x.float(), divided by the largest possible value"
        wanted, hint = ("in [0, 1]", hint) if bounded else ("in the units of the training data", "x.float()")
        raise ValueError(f"expected images as floats {wanted}, got {x.dtype}: {hint}")


def check_pixels(x: Tensor, dtype: torch.dtype, *, bounded: bool = True) -> None:
    """Check the dtype and the range of pixels, in one pass over all of them.

    Args:
        x: images that passed `check_form`, (B, C, H, W), or vectors, (B, D).
        dtype: the dtype of the model's parameters.
        bounded: whether pixels have to lie in [0, 1]; those of real-valued data only have to be finite.

    Raises:
        ValueError: if pixels lie outside [0, 1], are NaN or infinite, or have another dtype than the model.
    """
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"expected images of {dtype}, the dtype of the model, got {x.dtype}: x.to({dtype})")
    if not x.numel():
        return
    low, high = (bound.item() for bound in x.detach().aminmax())
    if not bounded:
        if math.isfinite(low) and math.isfinite(high):
            return
        raise ValueError("expected finite numbers, got NaN or infinity: leave these examples out")
    if low >= 0 and high <= 1:
        return
    hint = "the images contain NaN"
    if high > 2:
        hint = "x / 255" if high > 128 else "divide them by the largest possible value"
    elif low < -0.5:
        hint = "(x + 1) / 2, or undo their normalisation"
    elif low < 0 or high > 1:
        hint = "x.clamp(0, 1)"
    raise ValueError(f"expected pixels in [0, 1], got {low:g} to {high:g}: {hint}")
