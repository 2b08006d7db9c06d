"""A model that returns given images instead of generating them, and the digits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nelbo.data import digits
from nelbo.distributions import Delta
from nelbo.models import VAE


def digit_images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images in [0, 1] and labels, test images and labels of the 8x8 digits."""
    arrays = digits()
    train, test = arrays.train, arrays.test
    assert isinstance(train.images, Tensor) and isinstance(test.images, Tensor)
    return train.images / 255, train.labels, test.images / 255, test.labels


class Gallery(VAE):
    """A model whose `generate` returns the given images in turn, starting over after the last.

    Args:
        images: (N, C, H, W).
    """

    def __init__(self, images: Tensor) -> None:
        super(VAE, self).__init__()
        self.shape, self.images, self.shown = tuple(images.shape[1:]), images, 0

    def generate(self, n: int, temperature: float = 1.0) -> Any:
        positions = torch.arange(self.shown, self.shown + n) % len(self.images)
        self.shown += n
        return Delta(self.images[positions])
