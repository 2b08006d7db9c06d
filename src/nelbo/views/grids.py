"""Grids of images, or of charts of vectors, as tensors, and their files.

Shapes: R rows, K columns, C H W image, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

PIXELS = 56
"""Default height, in pixels, to which small images are enlarged."""

COLOURS = (1, 3)
"""Numbers of channels that are shown as they are; of any other number pictures show the mean."""

BAR, MOST_BARS = 0.35, 280
"""Grey of the bars of a chart, and their largest number; longer vectors are averaged to it."""

ValueRange = tuple[float, float] | None
"""The values that are shown as black and white; None for 0 and 1."""

GAP, BLOCK_GAP = 2, 8
"""Width in pixels of the gap between two images, and between two pictures."""


def as_pictures(x: Tensor, values: ValueRange = None, *, is_vector: bool = False) -> Tensor:
    """Return images as they are shown: real values from black to white, and channels that are no colours as their mean.

    Vectors become charts: a bar for each number, from 0, or from the end of the range that is nearest to it.

    Args:
        x: images (..., C, H, W), or vectors (..., D).
        values: the values that are shown as black and white, or as the lower and upper end of a chart.
        is_vector: whether x are vectors.

    Returns:
        Images of values in [0, 1], apart from those outside of `values`: (..., C, H, W) with one or three channels.
    """
    if is_vector:
        return _charts(x.detach().float().cpu(), *(values or (0.0, 1.0)))
    shown = x if values is None else (x - values[0]) / (values[1] - values[0])
    return shown if x.shape[-3] in COLOURS else shown.mean(dim=-3, keepdim=True)


def _charts(x: Tensor, low: float, high: float) -> Tensor:
    """Return bar charts of vectors (..., D), (..., 1, PIXELS, width)."""
    if x.shape[-1] > MOST_BARS:
        x = functional.adaptive_avg_pool1d(x.reshape(-1, 1, x.shape[-1]), MOST_BARS).reshape(*x.shape[:-1], MOST_BARS)
    width = max(1, round(PIXELS / x.shape[-1]))
    base = min(max(0.0, low), high)
    heights = high - (high - low) * (torch.arange(PIXELS) + 0.5) / PIXELS
    is_bar = (heights[:, None] - base) * (heights[:, None] - x.unsqueeze(-2)) <= 0
    bars = torch.where(is_bar, BAR, 1.0).repeat_interleave(width, dim=-1)
    if width > 2:
        bars[..., width - 1 :: width] = 1.0
    return bars.unsqueeze(-3)


def grid(images: Tensor, pixels: int = PIXELS, *, values: ValueRange = None) -> Tensor:
    """Arrange images in one picture, with white lines between them.

    Args:
        images: (R, K, C, H, W), or vectors (R, K, D), which are drawn as charts.
        pixels: approximate height of each image in the picture; images are enlarged by a whole number.
        values: the values that are black and white, beyond which images are clamped; None for 0 and 1.

    Returns:
        The picture, (C, height, width) in [0, 1].

    Example:
        >>> grid(torch.zeros(2, 3, 1, 28, 28)).shape
        torch.Size([1, 118, 176])
    """
    images = as_pictures(images, values, is_vector=images.ndim == 3)
    rows, columns, channels, height, width = images.shape
    scale = max(1, round(pixels / height))
    cells = images.detach().float().cpu().clamp(0, 1)
    cells = cells.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
    cells = functional.pad(cells, (0, GAP, 0, GAP), value=1.0)
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * cells.shape[-2], columns * cells.shape[-1])
    return functional.pad(picture, (GAP, 0, GAP, 0), value=1.0)


def square(images: Tensor, columns: int, *, values: ValueRange = None) -> Tensor:
    """Arrange images (R * K, C, H, W), or vectors (R * K, D), in a grid with K = `columns` columns, as `grid` does."""
    return grid(images.reshape(-1, columns, *images.shape[1:]), values=values)


def save_png(picture: Tensor, file: Path) -> Path:
    """Write a picture (C, height, width) in [0, 1] to a file, create its directory, and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(as_pixels(picture)).save(file)
    return file


def as_pixels(picture: Tensor) -> NDArray[np.uint8]:
    """Return a picture (C, height, width) in [0, 1] as bytes: (height, width, 3), or (height, width) if C is 1."""
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels


def normal_quantiles(count: int, device: torch.device) -> Tensor:
    """Return `count` quantiles of N(0, 1), (count,), of probabilities evenly spaced from 2.5% to 97.5%."""
    quantiles: Tensor = torch.special.ndtri(torch.linspace(0.025, 0.975, count))  # not implemented on every device
    return quantiles.to(device)


def joined(pictures: Sequence[Tensor], dim: int) -> Tensor:
    """Place pictures (C, height, width) below each other (`dim` 1) or side by side (`dim` 2), with wide white gaps."""
    sizes = (0, 0, 0, BLOCK_GAP) if dim == 1 else (0, BLOCK_GAP)
    padded = [functional.pad(picture, sizes, value=1.0) for picture in pictures[:-1]]
    return torch.cat([*padded, pictures[-1]], dim=dim)
