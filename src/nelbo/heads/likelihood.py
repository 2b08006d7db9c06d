"""What every likelihood head is.

Shapes: S Monte Carlo samples, B batch, C H W image. x lies in [0, 1].
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.heads.scheduled import Scheduled

BIAS_RANGE = 1e-3
"""Mean pixels are kept this far from 0 and 1 before their logit becomes a bias (Burda et al. 2016 start so too)."""


class Likelihood(Scheduled):
    """Features of z, (S, B, *feature_shape), to p(x|z) with batch shape (S, B) and event shape (C, H, W)."""

    hint: ClassVar[str] = "choose another likelihood"
    """What to say to data outside the support."""

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z). Only a likelihood that fits a parameter to each batch looks at x, and only in training."""
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Take starting values from training images (N, C, H, W) in [0, 1]."""
        raise NotImplementedError


def logit_within_range(mean: Tensor) -> Tensor:
    """The logit of mean pixels, finite."""
    return torch.logit(mean.clamp(BIAS_RANGE, 1 - BIAS_RANGE))


def variance_about(start: Tensor, images: Tensor) -> Tensor:
    """The mean squared distance of each pixel of images (N, C, H, W) from where it starts, (C, H, W).

    Args:
        start: the mean image, or one number a channel, (C, 1, 1).
        images: (N, C, H, W).
    """
    return images.var(dim=0, correction=0) + (images.mean(dim=0) - start).square()
