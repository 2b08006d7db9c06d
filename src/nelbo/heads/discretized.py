"""Likelihoods of pixels with discrete levels.

Shapes: C H W image. loc and scale are in pixel units, x in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiscretizedLogistic as DiscretizedLogisticPixels
from nelbo.errors import integer
from nelbo.heads.likelihood import Likelihood
from nelbo.nets import Projection

SCALE_FLOOR = 0.01
"""No scale goes below this share of the distance between two levels: there all of the mass is on one of them."""


class DiscretizedLogistic(Likelihood):
    """p(x|z): a logistic about mu(z) collected into `levels` levels, one learned scale a channel.

    Kingma et al. 2016, eq. 5, where it is the likelihood of CIFAR-10. scale = floor + exp(log_scale).

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        levels: of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if there are fewer than two levels.
    """

    mend = "give it stored pixels (data.protocol=raw, data.levels as many as they have) or use likelihood=gaussian"

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__()
        self.levels = integer("levels", levels, minimum=2)
        self.floor = SCALE_FLOOR / (levels - 1)
        self.project = Projection(feature_shape, shape)
        self.log_scale = nn.Parameter(torch.zeros(shape[0], 1, 1))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        return DiscretizedLogisticPixels(self.project(features), self.floor + self.log_scale.exp(), self.levels)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The bias starts at the mean image, the scale at the deviation from it."""
        self.project.set_bias(images.mean(dim=0))
        deviation = images.var(dim=0, correction=0).mean(dim=(-2, -1), keepdim=True).sqrt()
        scale = deviation * math.sqrt(3) / math.pi
        self.log_scale.copy_(scale.clamp(min=2 * self.floor).sub(self.floor).log())
