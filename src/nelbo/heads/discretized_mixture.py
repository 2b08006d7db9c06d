"""The discretised mixture of logistics of PixelCNN++.

Shapes: C H W image, K components, P = C (C - 1) / 2 pairs of channels. All parameters are in pixel units, x in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import DiscretizedLogisticMixture as DiscretizedLogisticMixturePixels
from nelbo.errors import positive_integer
from nelbo.heads.discretized import LOGISTIC_DEVIATION, SCALE_FLOOR, Discrete, channel_deviation
from nelbo.heads.likelihood import refuse_vectors
from nelbo.nets import Projection

SCALE_CEILING = 10.0
"""The bound of scales: at ten times the range of pixels, nearly all mass is on the outermost levels, half on each."""


class DiscretizedLogisticMixture(Discrete):
    """p(x|z), a mixture of discretised logistics for each pixel (Salimans et al. 2017, eqs. 2-3).

    The mean of a channel is linear in the channels before it. The weights, means, scales and linear coefficients all
    depend on z; the coefficients are bounded by tanh, as in the paper. Scales are bounded smoothly by `SCALE_FLOOR`
    levels and by `SCALE_CEILING`.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels of a pixel; 256 for 8 bits.
        components: number of components K.

    Raises:
        ConfigError: if `levels` is not a whole number of at least 2, `components` is not positive, or x is a vector.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int, components: int) -> None:
        super().__init__(levels)
        refuse_vectors("discretized_logistic_mixture", shape)
        self.floor = SCALE_FLOOR / (levels - 1)
        channels, *size = shape
        self.components = positive_integer("components", components)
        self.parts = [1, channels, channels, channels * (channels - 1) // 2]
        """The numbers of weights, means, scales and coefficients per component and pixel."""
        self.project = Projection(feature_shape, (sum(self.parts) * components, *size))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        parameters = self.project(features).unflatten(-3, (sum(self.parts), self.components))
        logits, loc, raw_scale, raw_coefficients = parameters.split(self.parts, dim=-4)
        # Close to floor + exp(raw) if that is small, and below floor + SCALE_CEILING.
        scale = self.floor + SCALE_CEILING * torch.sigmoid(raw_scale - math.log(SCALE_CEILING))
        coefficients = torch.tanh(raw_coefficients)
        return DiscretizedLogisticMixturePixels(logits.squeeze(-4), loc, scale, coefficients, self.levels)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the mean and variance of the mixture to those of the data.

        Half of the variance is between the means of the components and half within the components.
        """
        mean = self.project.shared(images.mean(dim=0))
        deviation = channel_deviation(mean, images)
        between = 0.5 if self.components > 1 else 0.0  # the fraction of the variance between the means
        offsets = torch.linspace(-1, 1, self.components, dtype=mean.dtype, device=mean.device).reshape(-1, 1, 1, 1)
        offsets = offsets * math.sqrt(between) / offsets.square().mean().sqrt()
        loc = (mean + deviation * offsets).transpose(0, 1)  # (C, K, H, W)
        within = deviation * math.sqrt(1 - between) / LOGISTIC_DEVIATION
        within = within.clamp(min=2 * self.floor) - self.floor
        raw_scale = within.log() - torch.log1p(-within / SCALE_CEILING)
        bias = torch.cat(
            [
                torch.zeros_like(loc[:1]),
                loc,
                raw_scale.unsqueeze(1).expand_as(loc),
                loc.new_zeros(self.parts[-1], *loc.shape[1:]),
            ]
        )
        self.project.set_bias(bias.flatten(0, 1))
