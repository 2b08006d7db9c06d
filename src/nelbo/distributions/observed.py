"""Images and vectors of which only some pixels were observed.

Shapes: S Monte Carlo samples, B batch, event (C, H, W), or (D,) for vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints


@runtime_checkable
class ByPixel(Protocol):
    """A distribution of independent pixels that is no `Independent`."""

    def pixel_log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each pixel of images, (..., *event), in nats."""


def has_pixels(px: Distribution) -> bool:
    """Return whether p(x|z) is a product over the pixels of x, as a sum of observed ones needs."""
    if isinstance(px, Independent):
        return px.reinterpreted_batch_ndims == len(px.event_shape)
    return isinstance(px, ByPixel)


class ObservedPixels(Distribution):
    """Independent pixels, of which only the observed ones count in `log_prob`.

    Mean and samples are those of all pixels.

    Args:
        px: the distribution of all pixels, one for which `has_pixels` is true.
        observed: which pixels were observed, bool, broadcastable to (..., *event); None for all.

    Example:
        >>> from nelbo.distributions import BernoulliPixels
        >>> observed = torch.tensor([True, False, True, True])
        >>> px = ObservedPixels(BernoulliPixels(torch.zeros(4), dimensions=1), observed)
        >>> round(px.log_prob(torch.ones(4)).item(), 4)  # 3 log(1/2)
        -2.0794
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, px: Distribution, observed: Tensor | None) -> None:
        self.px, self.observed = px, observed
        super().__init__(px.batch_shape, px.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of the observed pixels, (...), in nats."""
        if self.observed is None:
            whole: Tensor = self.px.log_prob(value)
            return whole
        if isinstance(self.px, ByPixel):
            pixels = self.px.pixel_log_probs(value)
        else:
            assert isinstance(self.px, Independent)
            pixels = self.px.base_dist.log_prob(value)
        return torch.where(self.observed, pixels, 0.0).flatten(-len(self.event_shape)).sum(-1)

    @property
    def support(self) -> constraints.Constraint | None:
        """The support of all pixels; 0 in place of one that is unknown has to be in it."""
        return self.px.support

    @property
    def mean(self) -> Tensor:
        """The mean image, (..., *event)."""
        return self.px.mean

    @property
    def variance(self) -> Tensor:
        """The variance of each pixel, (..., *event)."""
        return self.px.variance

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return images of all pixels, (*sample_shape, ..., *event)."""
        return self.px.sample(torch.Size(sample_shape))

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> ObservedPixels:
        """Return the same distribution with a larger batch shape."""
        return ObservedPixels(self.px.expand(torch.Size(batch_shape)), self.observed)
