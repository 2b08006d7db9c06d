"""How grey pixels become the pixels that a model sees. Results of different protocols are not comparable.

Shapes: N or B examples, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

PROTOCOLS = {
    "grey": "pixels as they are, divided by 255",
    "dynamic": "training images binarised anew at every presentation, validation and test once",
    "fixed": "all images binarised once, by the data's seed",
    "threshold": "1 where the pixel is at least one half",
    "static": "binarised once by the data set's publisher",
}


def binarize(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel 255 with probability its grey value, else 0 (Salakhutdinov & Murray 2008); uint8 to uint8."""
    # Chunked: float copies of a whole set would take four times its memory.
    chunks = [_sample(chunk, generator) for chunk in images.split(10_000)]
    return torch.cat(chunks) if chunks else images


def _sample(images: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.rand(images.shape, generator=generator) < images.float() / 255).to(torch.uint8) * 255


def threshold(images: Tensor) -> Tensor:
    """255 where the pixel is at least one half, else 0; uint8 to uint8."""
    return (images >= 128).to(torch.uint8) * 255


def as_floats(images: Tensor, *, resample: bool) -> Tensor:
    """A batch as the model sees it, in [0, 1]; where `resample`, drawn from Bernoulli(grey) on the images' device."""
    x = images.float().div_(255)
    # Comparing with uniform numbers is the same draw as torch.bernoulli, and faster on a CPU.
    return (torch.rand_like(x) < x).float() if resample else x
