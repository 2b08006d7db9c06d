"""A Beta likelihood, a density on an interval that can concentrate at both ends.

Shapes: S Monte Carlo samples, B batch, C H W image. x lies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import BetaPixels
from nelbo.errors import integer
from nelbo.heads.bounds import inverse_soft_bound, soft_bound
from nelbo.heads.likelihood import Likelihood, mean_of_places, of_channels, variance_about
from nelbo.nets import Projection

LOGIT_BOUND = 10.0
"""The bound of |logit| of the mean: above that of the outermost of 256 levels (6.2), so that no parameter reaches 0."""

CONCENTRATION_FLOOR = 0.1
"""The least concentration: below it most of the mass is outside the outermost of 256 levels.

Even the maximum-likelihood concentration of pixels on these two levels only is 0.3."""


class Beta(Likelihood):
    """p(x|z) = prod_i Beta(y_i; mu_i(z) nu, (1 - mu_i(z)) nu) (L - 1) / L, with y = (x (L - 1) + 1/2) / L.

    The concentration nu is learned, one per channel. log nu is bounded smoothly by log `CONCENTRATION_FLOOR` and log
    `concentration_ceiling(levels)`, at which a pixel on an outermost level has the standard deviation of quantisation
    noise. Without the upper bound, constant pixels would have an unbounded density.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels L of the data, which determines how far y stays from 0 and 1; 256 for 8 bits.

    Raises:
        ConfigError: if `levels` is not a whole number of at least 2.
    """

    hint = "scale the pixels to [0, 1]"

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__()
        self.levels = integer("levels", levels, minimum=2)
        low, high = math.log(CONCENTRATION_FLOOR), math.log(concentration_ceiling(levels))
        self.middle, self.reach = (high + low) / 2, (high - low) / 2
        self.project = Projection(feature_shape, shape)
        self.dimensions = len(shape)
        self.raw_concentration = nn.Parameter(of_channels(shape))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        logits = soft_bound(self.project(features), LOGIT_BOUND)
        concentration = torch.exp(self.middle + soft_bound(self.raw_concentration, self.reach))
        return BetaPixels(logits, concentration, self.levels, self.dimensions)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the mean to the mean image, and nu such that the variance mu (1 - mu) / (nu + 1) is that of the data."""
        start = self.project.set_bias(images.mean(dim=0), self._projected_value)
        y = self._to_y(start)
        variance = variance_about(start, images) * ((self.levels - 1) / self.levels) ** 2
        largest = mean_of_places(y * (1 - y))
        ratio = largest / mean_of_places(variance).clamp(min=torch.finfo(y.dtype).tiny)
        log_concentration = (ratio - 1).clamp(min=CONCENTRATION_FLOOR).log()
        self.raw_concentration.copy_(inverse_soft_bound(log_concentration - self.middle, self.reach))

    def _to_y(self, x: Tensor) -> Tensor:
        """Return y for pixels x."""
        return (x * (self.levels - 1) + 0.5) / self.levels

    def _projected_value(self, mean: Tensor) -> Tensor:
        """Return the projected value that gives the mean E[x]."""
        return inverse_soft_bound(torch.logit(self._to_y(mean)), LOGIT_BOUND)


def concentration_ceiling(levels: int) -> float:
    """Return the nu at which an outermost level, y = 1 / (2L), has the variance of quantisation noise, 1 / (12 L^2).

    It solves y (1 - y) / (nu + 1) = 1 / (12 L^2).

    Example:
        >>> concentration_ceiling(256)
        1532.0
    """
    return 6.0 * levels - 4
