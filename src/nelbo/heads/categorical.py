"""A likelihood with an unconstrained probability for each level of a pixel.

Shapes: C H W image, L levels, x in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import CategoricalPixels
from nelbo.heads.discretized import Discrete
from nelbo.heads.likelihood import refuse_vectors
from nelbo.nets import Projection

CHUNK = 1000
"""The number of images whose levels are counted at once: an index takes eight bytes per pixel."""


class Categorical(Discrete):
    """p(x|z), a softmax over the levels of each pixel and channel (van den Oord et al. 2016, section 2.2).

    The projection has L C H W outputs. After a convolutional decoder it is a 1x1 convolution. After a fully connected
    decoder it has L times the weights of other likelihoods: 40 million for MNIST with 200 features.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        levels: number of levels of a pixel; 256 for 8 bits.

    Raises:
        ConfigError: if `levels` is not a whole number of at least 2, or x is a vector.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, levels: int) -> None:
        super().__init__(levels)
        refuse_vectors("categorical", shape)
        self.channels = shape[0]
        self.project = Projection(feature_shape, (shape[0] * levels, *shape[1:]))

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        return CategoricalPixels(self.project(features).unflatten(-3, (self.channels, self.levels)))

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the bias to the log frequencies of the levels, with add-one smoothing."""
        pixels = images.flatten(1)
        counts = pixels.new_ones(self.levels, pixels.shape[1])
        for part in pixels.split(CHUNK):
            level = (part * (self.levels - 1)).round().long()
            counts.scatter_add_(0, level, torch.ones_like(part))
        counts = counts.unflatten(1, images.shape[1:]).transpose(0, 1).flatten(0, 1)  # (C L, H, W)
        frequencies = counts / (len(images) + self.levels)
        self.project.set_bias(frequencies, torch.log)
