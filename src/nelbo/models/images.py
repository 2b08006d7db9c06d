"""What a model can be given as images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_form(x: object, shape: Sequence[int]) -> None:
    """Refuse what has not the form of images; costs nothing, whatever their number.

    Args:
        x: images, (B, C, H, W).
        shape: (C, H, W) of the model.

    Raises:
        ValueError: for what is no tensor of floats, or has another shape.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"expected images as a torch.Tensor, got {type(x).__name__}: torch.as_tensor(x)")
    if x.shape[1:] != shape:
        raise ValueError(f"expected images of shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
    if not x.is_floating_point():
        hint = "x.float() / 255" if x.dtype == torch.uint8 else "x.float(), divided by the largest value that there is"
        raise ValueError(f"expected images as floats in [0, 1], got {x.dtype}: {hint}")


def check_pixels(x: Tensor, dtype: torch.dtype) -> None:
    """Refuse pixels that the model was not made for: one look at all of them.

    Args:
        x: images of the right form.
        dtype: of the model's parameters.

    Raises:
        ValueError: for pixels outside [0, 1], or of another type of floats.
    """
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"expected images of {dtype}, as the model is, got {x.dtype}: x.to({dtype})")
    if not x.numel():
        return
    low, high = (bound.item() for bound in x.detach().aminmax())
    if low >= 0 and high <= 1:
        return
    hint = "they are not numbers"
    if high > 2:
        hint = "x / 255" if high > 128 else "divide them by the largest value that there is"
    elif low < -0.5:
        hint = "(x + 1) / 2, or undo the normalisation that they went through"
    elif low < 0 or high > 1:
        hint = "x.clamp(0, 1)"
    raise ValueError(f"expected pixels in [0, 1], got {low:g} to {high:g}: {hint}")
