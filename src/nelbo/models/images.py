"""Checks of the images that are passed to a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.errors import ConfigError, positive_integer


def image_shape(shape: object) -> tuple[int, ...]:
    """Return the shape (C, H, W) of a config after checking it.

    Raises:
        ConfigError: if it is not three positive integers.
    """
    if not isinstance(shape, list | tuple) or len(shape) != 3:
        raise ConfigError("shape", shape, "must be [channels, height, width]")
    return tuple(positive_integer(f"shape[{index}]", size) for index, size in enumerate(shape))


def check_form(x: object, shape: Sequence[int]) -> None:
    """Check type, shape and dtype of images, without reading their pixels.

    Args:
        x: images, (B, C, H, W).
        shape: (C, H, W) of the model.

    Raises:
        ValueError: if `x` is not a floating-point tensor of that shape.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"expected images as a torch.Tensor, got {type(x).__name__}: torch.as_tensor(x)")
    if x.shape[1:] != shape:
        raise ValueError(f"expected images of shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        hint = "x.float() / 255" if x.dtype == torch.uint8 else "x.float(), divided by the largest possible value"
        raise ValueError(f"expected images as floats in [0, 1], got {x.dtype}: {hint}")


def check_pixels(x: Tensor, dtype: torch.dtype) -> None:
    """Check the dtype and the range of pixels, in one pass over all of them.

    Args:
        x: images that passed `check_form`, (B, C, H, W).
        dtype: the dtype of the model's parameters.

    Raises:
        ValueError: if pixels lie outside [0, 1], are NaN, or have another dtype than the model.
    """
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"expected images of {dtype}, the dtype of the model, got {x.dtype}: x.to({dtype})")
    if not x.numel():
        return
    low, high = (bound.item() for bound in x.detach().aminmax())
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
