"""Grids of images as tensors, and their files.

Shapes: R rows, K columns, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

PIXELS = 56
"""Default height, in pixels, to which small images are enlarged."""

GAP, BLOCK_GAP = 2, 8
"""Width in pixels of the gap between two images, and between two pictures."""


def grid(images: Tensor, pixels: int = PIXELS) -> Tensor:
    """Arrange images in one picture, with white lines between them.

    Args:
        images: (R, K, C, H, W), clamped to [0, 1].
        pixels: approximate height of each image in the picture; images are enlarged by a whole number.

    Returns:
        The picture, (C, height, width) in [0, 1].

    Example:
        >>> grid(torch.zeros(2, 3, 1, 28, 28)).shape
        torch.Size([1, 118, 176])
    """
    rows, columns, channels, height, width = images.shape
    scale = max(1, round(pixels / height))
    cells = images.detach().float().cpu().clamp(0, 1)
    cells = cells.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
    cells = functional.pad(cells, (0, GAP, 0, GAP), value=1.0)
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * cells.shape[-2], columns * cells.shape[-1])
    return functional.pad(picture, (GAP, 0, GAP, 0), value=1.0)


def square(images: Tensor, columns: int) -> Tensor:
    """Arrange images (R * K, C, H, W) in a grid with K = `columns` columns, as `grid` does."""
    return grid(images.reshape(-1, columns, *images.shape[1:]))


def save_png(picture: Tensor, file: Path) -> Path:
    """Write a picture (C, height, width) in [0, 1] to a file, create its directory, and return the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file)
    return file


def normal_quantiles(count: int, device: torch.device) -> Tensor:
    """Return `count` quantiles of N(0, 1), (count,), of probabilities evenly spaced from 2.5% to 97.5%."""
    quantiles: Tensor = torch.special.ndtri(torch.linspace(0.025, 0.975, count))  # not implemented on every device
    return quantiles.to(device)


def joined(pictures: Sequence[Tensor], dim: int) -> Tensor:
    """Place pictures (C, height, width) below each other (`dim` 1) or side by side (`dim` 2), with wide white gaps."""
    sizes = (0, 0, 0, BLOCK_GAP) if dim == 1 else (0, BLOCK_GAP)
    padded = [functional.pad(picture, sizes, value=1.0) for picture in pictures[:-1]]
    return torch.cat([*padded, pictures[-1]], dim=dim)
