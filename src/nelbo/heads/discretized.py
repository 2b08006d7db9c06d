"""Likelihoods of pixels with discrete levels: densities collected into them.

Shapes: C H W image. loc and scale are in pixel units, x in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiscretizedGaussian as DiscretizedGaussianPixels
from nelbo.distributions import DiscretizedLogistic as DiscretizedLogisticPixels
from nelbo.errors import integer
from nelbo.heads.likelihood import Likelihood, variance_about
from nelbo.nets import Projection

SCALE_FLOOR = 0.01
"""No scale goes below this share of the distance between two levels: there all of the mass is on one of them."""

LOGISTIC_DEVIATION = math.pi / math.sqrt(3)
"""Standard deviation of a logistic at scale 1."""


class Discrete(Likelihood):
    """A likelihood of pixels that take one of `levels` values; subclasses give each a probability.

    Args:
        levels: of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if there are fewer than two levels.
    """

    hint = "give it stored pixels (data.protocol=raw, data.levels as many as they have) or use likelihood=gaussian"

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = integer("levels", levels, minimum=2)


class Discretized(Discrete):
    """p(x|z): a density about mu(z) collected into levels, one learned scale a channel: scale = floor + exp(log_scale).

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        levels: of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if there are fewer than two levels.
    """

    pixels: ClassVar[type[DiscretizedLogisticPixels | DiscretizedGaussianPixels]]
    deviation: ClassVar[float]
    """Standard deviation at scale 1."""

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__(levels)
        self.floor = SCALE_FLOOR / (levels - 1)
        self.project = Projection(feature_shape, shape)
        self.log_scale = nn.Parameter(torch.zeros(shape[0], 1, 1))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        return self.pixels(self.project(features), self.floor + self.log_scale.exp(), self.levels)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The bias starts at the mean image, the scale at the deviation from it."""
        start = self.project.set_bias(images.mean(dim=0))
        scale = channel_deviation(start, images) / self.deviation
        self.log_scale.copy_(scale.clamp(min=2 * self.floor).sub(self.floor).log())


class DiscretizedLogistic(Discretized):
    """p(x|z): a logistic about mu(z) collected into `levels` levels, one learned scale a channel.

    Kingma et al. 2016, eq. 5, where it is the likelihood of CIFAR-10.
    """

    pixels = DiscretizedLogisticPixels
    deviation = LOGISTIC_DEVIATION


class DiscretizedGaussian(Discretized):
    """p(x|z): a normal about mu(z) collected into `levels` levels, one learned sigma a channel.

    Ho et al. 2020, eq. 13, where it is the decoder of the last step.
    """

    pixels = DiscretizedGaussianPixels
    deviation = 1.0


def channel_deviation(start: Tensor, images: Tensor) -> Tensor:
    """Root mean square distance of the pixels (N, C, H, W) from where they start, (C, 1, 1); see `variance_about`."""
    return variance_about(start, images).mean(dim=(-2, -1), keepdim=True).sqrt()
