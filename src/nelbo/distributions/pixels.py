"""Independent pixels with a fast `log_prob`, which takes half the time of torch's `Independent`.

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Laplace, Normal
from torch.nn import functional

EVENT_DIMENSIONS = 3


class BernoulliPixels(Independent[Bernoulli]):
    """Bernoulli pixels.

    Args:
        logits: (..., C, H, W).

    Example:
        >>> px = BernoulliPixels(torch.zeros(3, 5, 1, 4, 4))
        >>> px.log_prob(torch.zeros(5, 1, 4, 4)).shape
        torch.Size([3, 5])
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(Bernoulli(logits=logits, validate_args=False), EVENT_DIMENSIONS, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images, (...), in nats."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        loss = functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -loss.flatten(-EVENT_DIMENSIONS).sum(-1)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> BernoulliPixels:
        """Return the same distribution with a larger batch shape."""
        return BernoulliPixels(self.base_dist.logits.expand((*batch_shape, *self.event_shape)))


class NormalPixels(Independent[Normal]):
    """Gaussian pixels.

    Args:
        loc: mean, (..., C, H, W).
        scale: standard deviation, shared by the batch: () or broadcastable to (C, H, W).
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.shared_scale = scale
        super().__init__(Normal(loc, scale, validate_args=False), EVENT_DIMENSIONS, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of images, (...), in nats."""
        squares = ((value - self.base_dist.loc) / self.shared_scale).square().flatten(-EVENT_DIMENSIONS).sum(-1)
        log_scale = self.shared_scale.log().expand(self.event_shape).sum()
        return -0.5 * squares - log_scale - 0.5 * math.log(2 * math.pi) * math.prod(self.event_shape)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> NormalPixels:
        """Return the same distribution with a larger batch shape."""
        return NormalPixels(self.base_dist.loc.expand((*batch_shape, *self.event_shape)), self.shared_scale)


class LaplacePixels(Independent[Laplace]):
    """Laplace pixels.

    Args:
        loc: mean, (..., C, H, W).
        scale: scale, shared by the batch: () or broadcastable to (C, H, W). The standard deviation is scale * sqrt(2).
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.shared_scale = scale
        super().__init__(Laplace(loc, scale, validate_args=False), EVENT_DIMENSIONS, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of images, (...), in nats."""
        distances = ((value - self.base_dist.loc).abs() / self.shared_scale).flatten(-EVENT_DIMENSIONS).sum(-1)
        return -distances - (2 * self.shared_scale).log().expand(self.event_shape).sum()

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> LaplacePixels:
        """Return the same distribution with a larger batch shape."""
        return LaplacePixels(self.base_dist.loc.expand((*batch_shape, *self.event_shape)), self.shared_scale)
