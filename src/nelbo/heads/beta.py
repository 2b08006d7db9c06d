"""A Beta likelihood: a density on an interval, whose pixels may pile up at its ends.

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
from nelbo.heads.bounds import before_bound, soft_bound
from nelbo.heads.likelihood import Likelihood, variance_about
from nelbo.nets import Projection

LOGIT_BOUND = 10.0
"""|logit| of the mean stays below this: it reaches the outer ones of 256 levels (6.2), and no parameter reaches 0."""

CONCENTRATION_FLOOR = 0.1
"""Below this most mass is beyond the outer ones of 256 levels; even pixels of those two alone ask for 0.3."""


class Beta(Likelihood):
    """p(x|z) = prod Beta(y; mu(z) nu, (1 - mu(z)) nu) (L - 1) / L, y = (x (L - 1) + 1/2) / L, one learned nu a channel.

    log nu lies smoothly between log `CONCENTRATION_FLOOR` and log `concentration_ceiling`, where a pixel at an
    outer level has the deviation of quantisation noise: constant pixels would otherwise earn an unbounded density.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        levels: L of the data, which says how far its ends are from 0 and 1; 256 for 8 bits.

    Raises:
        ConfigError: if there are fewer than two levels.
    """

    hint = "scale the pixels to [0, 1]"

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__()
        self.levels = integer("levels", levels, minimum=2)
        low, high = math.log(CONCENTRATION_FLOOR), math.log(concentration_ceiling(levels))
        self.middle, self.reach = (high + low) / 2, (high - low) / 2
        self.project = Projection(feature_shape, shape)
        self.raw_concentration = nn.Parameter(torch.zeros(shape[0], 1, 1))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        logits = soft_bound(self.project(features), LOGIT_BOUND)
        concentration = torch.exp(self.middle + soft_bound(self.raw_concentration, self.reach))
        return BetaPixels(logits, concentration, self.levels)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The mean starts at the mean image, nu where the variance, mu (1 - mu) / (nu + 1), is that of the data."""
        start = self.project.set_bias(images.mean(dim=0), self._parameter)
        y = self._inside(start)
        variance = variance_about(start, images) * ((self.levels - 1) / self.levels) ** 2
        largest = (y * (1 - y)).mean(dim=(-2, -1), keepdim=True)
        ratio = largest / variance.mean(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(y.dtype).tiny)
        log_concentration = (ratio - 1).clamp(min=CONCENTRATION_FLOOR).log()
        self.raw_concentration.copy_(before_bound(log_concentration - self.middle, self.reach))

    def _inside(self, x: Tensor) -> Tensor:
        """Pixels x as values y of the Beta."""
        return (x * (self.levels - 1) + 0.5) / self.levels

    def _parameter(self, mean: Tensor) -> Tensor:
        """What the projection says where the mean of x is this."""
        return before_bound(torch.logit(self._inside(mean)), LOGIT_BOUND)


def concentration_ceiling(levels: int) -> float:
    """Where an outer level, y = 1/(2L), has the variance of noise within it: y (1 - y) / (nu + 1) = 1/(12 L^2)."""
    return 6.0 * levels - 4
