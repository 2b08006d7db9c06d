"""Normalizing flows: a base density transformed by an invertible map.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from nelbo.distributions.normal import DiagonalNormal
from nelbo.numerics.precision import without_autocast


class LogDetTransform(Protocol):
    """The interface of an invertible map f, which the transforms of zuko have."""

    inv: LogDetTransform

    def __call__(self, x: Tensor) -> Tensor:
        """Return f(x), (..., D)."""

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x), (..., D), and log |det df/dx|, (...)."""


class Flow(Distribution):
    """z = f(e), e ~ base: log p(z) = log base(e) - log |det df/de| (Rezende & Mohamed 2015, eq. 5).

    The mean and the variance have no closed form and raise `NotImplementedError`; average samples instead.

    Args:
        base: the distribution of e, event shape (D,).
        transform: f. Sampling evaluates f; the density at a given z evaluates its inverse.
        fast_inverse: whether the inverse takes as few passes as f, so that densities at many other points are cheap.

    Example:
        >>> from nelbo.distributions import StandardNormal
        >>> from nelbo.nets import FlowTransforms
        >>> layers = FlowTransforms(2, 0, kind="coupling", layers=2, hidden=[8])
        >>> p = Flow(StandardNormal(torch.zeros(2)), layers())
        >>> z, log_p = p.rsample_and_log_prob((3,))
        >>> z.shape, log_p.shape
        (torch.Size([3, 2]), torch.Size([3]))
    """

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: DiagonalNormal, transform: LogDetTransform, *, fast_inverse: bool = False) -> None:
        self.base, self.transform, self.fast_inverse = base, transform, fast_inverse
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples, (*sample_shape, ..., D)."""
        with self._full_precision():
            return self.transform(self.base.rsample(sample_shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """Return samples, (*sample_shape, ..., D), and log p of each, (*sample_shape, ...), in nats.

        This evaluates the transform only, not its inverse.
        """
        e = self.base.rsample(sample_shape)
        with self._full_precision():
            z, log_det = self.transform.call_and_ladj(e)
        return z, self._base_log_prob(e) - log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats; this evaluates the inverse transform."""
        # Coupling layers do not broadcast the input against the context.
        value = value.expand(torch.broadcast_shapes(value.shape, self.base.loc.shape))
        with self._full_precision():
            e, log_det = self.transform.inv.call_and_ladj(value)
        return self._base_log_prob(e) + log_det

    def _full_precision(self) -> AbstractContextManager[None]:
        """Return a context that disables autocast: sums of log-determinants need the precision of float32."""
        return without_autocast(self.base.loc.device)

    def _base_log_prob(self, e: Tensor) -> Tensor:
        log_p: Tensor = self.base.log_prob(e)  # type: ignore[no-untyped-call]
        return log_p
