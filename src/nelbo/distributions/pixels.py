"""Independent pixels with a fast `log_prob`, which takes half the time of torch's `Independent`.

Shapes: any batch shape, event (C, H, W), or with `dimensions=1` (D,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Laplace, Normal
from torch.nn import functional

EVENT_DIMENSIONS = 3
"""The number of dimensions of an image (C, H, W); a vector has one."""


class BernoulliPixels(Independent[Bernoulli]):
    """Bernoulli pixels.

    Args:
        logits: (..., C, H, W).
        dimensions: number of dimensions of the event.

    Example:
        >>> px = BernoulliPixels(torch.zeros(3, 5, 1, 4, 4))
        >>> px.log_prob(torch.zeros(5, 1, 4, 4)).shape
        torch.Size([3, 5])
    """

    def __init__(self, logits: Tensor, dimensions: int = EVENT_DIMENSIONS) -> None:
        super().__init__(Bernoulli(logits=logits, validate_args=False), dimensions, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images, (...), in nats."""
        logits, value = torch.broadcast_tensors(self.base_dist.logits, value)
        loss = functional.binary_cross_entropy_with_logits(logits, value, reduction="none")
        return -loss.flatten(-self.reinterpreted_batch_ndims).sum(-1)

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> BernoulliPixels:
        """Return the same distribution with a larger batch shape."""
        logits = self.base_dist.logits.expand((*batch_shape, *self.event_shape))
        return BernoulliPixels(logits, self.reinterpreted_batch_ndims)


class NormalPixels(Independent[Normal]):
    """Gaussian pixels.

    Args:
        loc: mean, (..., C, H, W).
        scale: standard deviation, shared by the batch: () or broadcastable to (C, H, W).
        dimensions: number of dimensions of the event.
    """

    def __init__(self, loc: Tensor, scale: Tensor, dimensions: int = EVENT_DIMENSIONS) -> None:
        self.shared_scale = scale
        super().__init__(Normal(loc, scale, validate_args=False), dimensions, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of images, (...), in nats."""
        rank = self.reinterpreted_batch_ndims
        squares = ((value - self.base_dist.loc) / self.shared_scale).square().flatten(-rank).sum(-1)
        log_scale = self.shared_scale.log().expand(self.event_shape).sum()
        return -0.5 * squares - log_scale - 0.5 * math.log(2 * math.pi) * math.prod(self.event_shape)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> NormalPixels:
        """Return the same distribution with a larger batch shape."""
        loc = self.base_dist.loc.expand((*batch_shape, *self.event_shape))
        return NormalPixels(loc, self.shared_scale, self.reinterpreted_batch_ndims)


class LaplacePixels(Independent[Laplace]):
    """Laplace pixels.

    Args:
        loc: mean, (..., C, H, W).
        scale: scale, shared by the batch: () or broadcastable to (C, H, W). The standard deviation is scale * sqrt(2).
        dimensions: number of dimensions of the event.
    """

    def __init__(self, loc: Tensor, scale: Tensor, dimensions: int = EVENT_DIMENSIONS) -> None:
        self.shared_scale = scale
        super().__init__(Laplace(loc, scale, validate_args=False), dimensions, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of images, (...), in nats."""
        rank = self.reinterpreted_batch_ndims
        distances = ((value - self.base_dist.loc).abs() / self.shared_scale).flatten(-rank).sum(-1)
        return -distances - (2 * self.shared_scale).log().expand(self.event_shape).sum()

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> LaplacePixels:
        """Return the same distribution with a larger batch shape."""
        loc = self.base_dist.loc.expand((*batch_shape, *self.event_shape))
        return LaplacePixels(loc, self.shared_scale, self.reinterpreted_batch_ndims)
