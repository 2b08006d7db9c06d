"""The likelihood of PixelCNN++.

Shapes: C H W image, K components, P = C (C - 1) / 2 pairs of channels. Everything is in pixel units, x in [0, 1].
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
from nelbo.nets import Projection

SCALE_CEILING = 10.0
"""Every scale stays below this: at ten times the range of pixels all mass is on the outer levels, in equal parts."""


class DiscretizedLogisticMixture(Discrete):
    """p(x|z): at each pixel a mixture of discretised logistics, a channel's mean linear in the earlier channels.

    Salimans et al. 2017, eqs. 2-3. Everything depends on z: weights, means, scales and, bounded by tanh as there, the
    coefficients of the earlier channels. Scales lie smoothly between `SCALE_FLOOR` levels and `SCALE_CEILING`.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        levels: of a pixel; 256 for 8 bits.
        components: K.

    Raises:
        ConfigError: if there are fewer than two levels or no component.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int, components: int) -> None:
        super().__init__(levels)
        self.floor = SCALE_FLOOR / (levels - 1)
        channels, *size = shape
        self.components = positive_integer("components", components)
        self.parts = [1, channels, channels, channels * (channels - 1) // 2]
        """How many numbers each component has of weights, means, scales and coefficients."""
        self.project = Projection(feature_shape, (sum(self.parts) * components, *size))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        parameters = self.project(features).unflatten(-3, (sum(self.parts), self.components))
        logits, loc, raw_scale, raw_coefficients = parameters.split(self.parts, dim=-4)
        # exp(raw) where that is small, and never above the ceiling.
        scale = self.floor + SCALE_CEILING * torch.sigmoid(raw_scale - math.log(SCALE_CEILING))
        coefficients = torch.tanh(raw_coefficients)
        return DiscretizedLogisticMixturePixels(logits.squeeze(-4), loc, scale, coefficients, self.levels)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The mixture starts at the mean image and at the deviation from it, half of which is between its means."""
        mean = self.project.shared(images.mean(dim=0))
        deviation = channel_deviation(mean, images)
        share = 0.5 if self.components > 1 else 0.0  # of the variance
        offsets = torch.linspace(-1, 1, self.components, dtype=mean.dtype, device=mean.device).reshape(-1, 1, 1, 1)
        offsets = offsets * math.sqrt(share) / offsets.square().mean().sqrt()
        loc = (mean + deviation * offsets).transpose(0, 1)  # (C, K, H, W)
        within = deviation * math.sqrt(1 - share) / LOGISTIC_DEVIATION
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
