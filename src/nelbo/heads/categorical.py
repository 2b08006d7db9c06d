"""A likelihood that knows nothing about the order of levels.

Shapes: C H W image, L levels, x in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import CategoricalPixels
from nelbo.heads.discretized import Discrete
from nelbo.nets import Projection

CHUNK = 1000
"""Images whose levels are counted at a time: an index takes eight bytes a pixel."""


class Categorical(Discrete):
    """p(x|z): a softmax over the levels of each pixel and channel (van den Oord et al. 2016, section 2.2).

    The projection has L C H W outputs. On features that are an image that is a 1x1 convolution; for a fully connected
    decoder it is L times the last layer of the others: 40 million weights for MNIST at 200 features.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        levels: of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if there are fewer than two levels.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__(levels)
        self.channels = shape[0]
        self.project = Projection(feature_shape, (shape[0] * levels, *shape[1:]))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        return CategoricalPixels(self.project(features).unflatten(-3, (self.channels, self.levels)))

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """The bias starts at the logarithm of each level's share, each counted once more (Laplace's rule)."""
        pixels = images.flatten(1)
        counts = pixels.new_ones(self.levels, pixels.shape[1])
        for part in pixels.split(CHUNK):
            level = (part * (self.levels - 1)).round().long()
            counts.scatter_add_(0, level, torch.ones_like(part))
        counts = counts.unflatten(1, images.shape[1:]).transpose(0, 1).flatten(0, 1)  # (C L, H, W)
        share = counts / (len(images) + self.levels)
        self.project.set_bias(share, torch.log)
