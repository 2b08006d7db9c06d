"""A Laplace likelihood, with absolute instead of squared errors.

Shapes: S Monte Carlo samples, B batch, C H W image, or D in place of C H W for vectors. loc and scale are in the units
of x: for pixels x lies in [0, 1].
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
"""The least scale, at which the standard deviation, scale * sqrt(2), is that of 8-bit quantisation noise."""


class Laplace(Likelihood):
    """p(x|z) = prod_i Laplace(x_i; mu_i(z), b), with one learned scale b = `LAPLACE_FLOOR` + exp(log_scale).

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)
        self.dimensions = len(shape)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        return LaplacePixels(self.project(features), LAPLACE_FLOOR + self.log_scale.exp(), self.dimensions)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the bias to the mean image, and b to the mean absolute difference from it, the maximum-likelihood b."""
        start = self.project.set_bias(images.mean(dim=0))
        scale = (images - start).abs_().mean()
        self.log_scale.copy_(scale.clamp(min=2 * LAPLACE_FLOOR).sub(LAPLACE_FLOOR).log())
