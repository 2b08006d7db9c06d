"""How stored pixels become the pixels that a model sees. Results of different protocols are not comparable.

Shapes: B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from nelbo.data.noise import PIXELS, Draws


@dataclass(frozen=True)
class Protocol:
    """A way to present images.

    Args:
        description: what it does, for a person.
        present: uint8 images (B, C, H, W) and the batch's random numbers to floats in [0, 1].
        anew: whether training images are drawn anew in every epoch; all others are drawn once.
    """

    description: str
    present: Callable[[Tensor, Draws], Tensor]
    anew: bool = False


def _raw(images: Tensor, draws: Draws) -> Tensor:
    return images.float().mul_(1 / 255)  # half the time of a division; 255 still becomes exactly 1


def _bernoulli(images: Tensor, draws: Draws) -> Tensor:
    """Each pixel 1 with probability its grey value, else 0 (Salakhutdinov & Murray 2008)."""
    return (draws.uniform(PIXELS, *images.shape[1:]) < _raw(images, draws)).float()


def _threshold(images: Tensor, draws: Draws) -> Tensor:
    return (images >= 128).float()


def _dequantized(images: Tensor, draws: Draws) -> Tensor:
    """(v + u) / 256: a density of these pixels bounds the probability of the 8-bit ones (Theis et al. 2016, eq. 3)."""
    return draws.uniform(PIXELS, *images.shape[1:]).add_(images).div_(256)


PROTOCOLS = {
    "raw": Protocol("pixels as they are, divided by 255", _raw),
    "dequantized": Protocol(
        "uniform noise within each of 256 levels: training images anew, others once", _dequantized, anew=True
    ),
    "dynamic": Protocol(
        "training images binarised anew at every presentation, validation and test once", _bernoulli, anew=True
    ),
    "fixed": Protocol("all images binarised once, by the data's seed", _bernoulli),
    "threshold": Protocol("1 where the pixel is at least one half", _threshold),
    "static": Protocol("binarised once by the data set's publisher", _raw),
}
