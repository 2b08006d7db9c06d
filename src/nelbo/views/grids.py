"""Pictures from tensors.

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
"""Small images are enlarged to about this many pixels by default, so that a person sees them."""

GAP, BLOCK_GAP = 2, 8


def grid(images: Tensor, pixels: int = PIXELS) -> Tensor:
    """Images (R, K, C, H, W) as one picture (C, height, width) in [0, 1], with white lines between."""
    rows, columns, channels, height, width = images.shape
    scale = max(1, round(pixels / height))
    cells = images.detach().float().cpu().clamp(0, 1)
    cells = cells.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
    cells = functional.pad(cells, (0, GAP, 0, GAP), value=1.0)
    picture = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * cells.shape[-2], columns * cells.shape[-1])
    return functional.pad(picture, (GAP, 0, GAP, 0), value=1.0)


def square(images: Tensor, columns: int) -> Tensor:
    """Images (R * K, C, H, W) as a picture with `columns` columns."""
    return grid(images.reshape(-1, columns, *images.shape[1:]))


def save_png(picture: Tensor, file: Path) -> Path:
    """A picture (C, height, width) in [0, 1] as a file; where it lies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file)
    return file


def normal_quantiles(count: int, device: torch.device) -> Tensor:
    """`count` points that cut N(0, 1) into equal parts, between its 2.5% and 97.5% quantiles, (count,)."""
    quantiles: Tensor = torch.special.ndtri(torch.linspace(0.025, 0.975, count))  # not every device has it
    return quantiles.to(device)


def joined(pictures: Sequence[Tensor], dim: int) -> Tensor:
    """Pictures (C, height, width) below one another (dim 1) or beside one another (dim 2), with wider white gaps."""
    sizes = (0, 0, 0, BLOCK_GAP) if dim == 1 else (0, BLOCK_GAP)
    apart = [functional.pad(picture, sizes, value=1.0) for picture in pictures[:-1]]
    return torch.cat([*apart, pictures[-1]], dim=dim)
