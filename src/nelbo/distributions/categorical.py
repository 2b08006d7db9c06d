"""Pixels with a probability for each of their L levels.

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Categorical, constraints
from torch.nn import functional

from nelbo.distributions.levels import LevelPixels
from nelbo.distributions.pixels import EVENT_DIMENSIONS

LEVEL = -EVENT_DIMENSIONS - 1
"""Where the levels stand among the dimensions of the logits."""


class CategoricalPixels(LevelPixels):
    """P(k) = softmax(logits)_k for each pixel and channel (van den Oord et al. 2016, section 2.2).

    Args:
        logits: (..., L, C, H, W).
    """

    arg_constraints = {"logits": constraints.real}

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        event_shape = logits.shape[-EVENT_DIMENSIONS:]
        super().__init__(logits.shape[LEVEL], logits.shape[:LEVEL], event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of images, (...), in nats."""
        batch_shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-EVENT_DIMENSIONS])
        logits = self.logits.expand(*batch_shape, self.levels, *self.event_shape)
        level = self.nearest(value).long().expand(*batch_shape, *self.event_shape)
        # One leading dimension, then the levels, is how cross-entropy wants it: nothing is moved.
        size = math.prod(batch_shape)
        logits, level = logits.reshape(size, *logits.shape[LEVEL:]), level.reshape(size, *self.event_shape)
        loss = functional.cross_entropy(logits, level, reduction="none")
        return -loss.flatten(1).sum(-1).reshape(batch_shape)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Levels, (*sample_shape, ..., C, H, W)."""
        pixels = Categorical(logits=self.logits.movedim(LEVEL, -1), validate_args=False)
        level: Tensor = pixels.sample(torch.Size(sample_shape))
        return level.to(self.logits.dtype) / self.top

    @property
    def mean(self) -> Tensor:
        """The exact mean of the levels, (..., C, H, W)."""
        values = torch.arange(self.levels, dtype=self.logits.dtype, device=self.logits.device) / self.top
        return torch.einsum("...lchw,l->...chw", self.logits.softmax(LEVEL), values)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> CategoricalPixels:
        """The same distribution with a larger batch shape."""
        return CategoricalPixels(self.logits.expand((*batch_shape, self.levels, *self.event_shape)))
