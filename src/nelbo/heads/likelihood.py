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

    mend: ClassVar[str] = "choose another likelihood"
    """What to say to data outside the support."""

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z). Only a likelihood that fits a parameter to each batch looks at x, and only in training."""
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Take starting values from training images (N, C, H, W) in [0, 1]."""
        raise NotImplementedError


def mean_logit(images: Tensor) -> Tensor:
    """The logit of the mean image, (C, H, W), finite."""
    return torch.logit(images.mean(dim=0).clamp(BIAS_RANGE, 1 - BIAS_RANGE))
