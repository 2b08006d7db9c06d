"""Likelihoods of pixels with discrete levels, by integrating a density around each level.

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
from nelbo.heads.likelihood import Likelihood, mean_of_places, of_channels, variance_about
from nelbo.nets import Projection

SCALE_FLOOR = 0.01
"""The least scale, in units of the distance between two levels; there all of the mass is on one level."""

LOGISTIC_DEVIATION = math.pi / math.sqrt(3)
"""Standard deviation of a logistic distribution with scale 1."""


class Discrete(Likelihood):
    """The base of likelihoods of pixels with discrete levels; subclasses define the probability of each level.

    Args:
        levels: number of levels of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if `levels` is not a whole number of at least 2.
    """

    hint = "use stored pixels (data.protocol=raw and data.levels set to their number of levels) or likelihood=gaussian"

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = integer("levels", levels, minimum=2)


class Discretized(Discrete):
    """The base of likelihoods that discretise a density with location mu(z).

    One scale per channel is learned: scale = floor + exp(log_scale). Subclasses define the density.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if `levels` is not a whole number of at least 2.
    """

    pixels: ClassVar[type[DiscretizedLogisticPixels | DiscretizedGaussianPixels]]
    deviation: ClassVar[float]
    """Standard deviation of the density at scale 1."""

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__(levels)
        self.floor = SCALE_FLOOR / (levels - 1)
        self.project = Projection(feature_shape, shape)
        self.dimensions = len(shape)
        self.log_scale = nn.Parameter(of_channels(shape))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        return self.pixels(self.project(features), self.floor + self.log_scale.exp(), self.levels, self.dimensions)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the bias to the mean image, and the scale to the standard deviation of the pixels from it."""
        start = self.project.set_bias(images.mean(dim=0))
        scale = channel_deviation(start, images) / self.deviation
        self.log_scale.copy_(scale.clamp(min=2 * self.floor).sub(self.floor).log())


class DiscretizedLogistic(Discretized):
    """p(x|z), a discretised logistic with location mu(z) (Kingma et al. 2016, eq. 5).

    One scale per channel is learned.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels of a pixel; 256 for 8 bits.

    Example:
        >>> likelihood = DiscretizedLogistic((16,), (3, 8, 8), levels=256)
        >>> px = likelihood(torch.zeros(3, 5, 16))  # features of 3 samples for each of 5 images
        >>> px.log_prob(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([3, 5])
    """

    pixels = DiscretizedLogisticPixels
    deviation = LOGISTIC_DEVIATION


class DiscretizedGaussian(Discretized):
    """p(x|z), a discretised normal with mean mu(z) (Ho et al. 2020, eq. 13).

    One sigma per channel is learned.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels of a pixel; 256 for 8 bits.
    """

    pixels = DiscretizedGaussianPixels
    deviation = 1.0


def channel_deviation(start: Tensor, images: Tensor) -> Tensor:
    """Return the root mean square of `images - start` over images and pixels, (C, 1, 1), or (D,) of vectors."""
    return mean_of_places(variance_about(start, images)).sqrt()
