"""A Laplace likelihood: absolute instead of squared errors.

Shapes: S Monte Carlo samples, B batch, C H W image. loc and scale are in pixel units, x in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import LaplacePixels
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.likelihood import Likelihood
from nelbo.nets import Projection

LAPLACE_FLOOR = SIGMA_FLOOR / math.sqrt(2)
"""No scale goes below this, where the standard deviation, scale * sqrt(2), is the noise of 8-bit quantisation."""


class Laplace(Likelihood):
    """p(x|z) = prod Laplace(x; mu(z), b), one learned scale for all pixels: b = floor + exp(log_scale).

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        return LaplacePixels(self.project(features), LAPLACE_FLOOR + self.log_scale.exp())

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The bias starts at the mean image, b at the mean absolute deviation from it: its maximum-likelihood value."""
        start = self.project.set_bias(images.mean(dim=0))
        scale = (images - start).abs_().mean()
        self.log_scale.copy_(scale.clamp(min=2 * LAPLACE_FLOOR).sub(LAPLACE_FLOOR).log())
