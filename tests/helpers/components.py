"""Images of a few Gaussian components beside noise."""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 0.01
"""Variance of each pixel beside the components."""


def images_with_components(pixels: int, train: int, held_out: int, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Draw training images and held-out images (N, 1, 1, P) of components with `variances` in units of the noise."""
    vectors = torch.linalg.qr(torch.randn(pixels, len(variances))).Q

    def draw(count: int) -> Tensor:
        codes = torch.randn(count, len(variances)) * variances.sqrt()
        x = 0.5 + NOISE**0.5 * (codes @ vectors.T + torch.randn(count, pixels))
        return x.reshape(count, 1, 1, pixels)

    return draw(train), draw(held_out)
