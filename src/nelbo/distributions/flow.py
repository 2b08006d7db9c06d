"""A density moved by an invertible map.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from nelbo.distributions.normal import DiagonalNormal


class LogDetTransform(Protocol):
    """What a flow asks of its transform, zuko's: values together with log |det| of the Jacobian."""

    inv: LogDetTransform

    def __call__(self, x: Tensor) -> Tensor:
        """f(x), (..., D)."""

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x), (..., D), and log |det df/dx|, (...)."""


class Flow(Distribution):
    """z = f(e), e ~ base: log p(z) = log base(e) - log |det df/de| (Rezende & Mohamed 2015, eq. 5).

    Its mean and variance have no closed form, so they are refused; average samples instead.

    Args:
        base: of e.
        transform: f. Sampling calls it, the density of a given z its inverse.
    """

    arg_constraints = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: DiagonalNormal, transform: LogDetTransform) -> None:
        self.base, self.transform = base, transform
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Samples, (*sample_shape, ..., D)."""
        with self._full_precision():
            return self.transform(self.base.rsample(sample_shape))

    def rsample_and_log_prob(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """Samples, (*sample_shape, ..., D), and log p of each, (*sample_shape, ...), in nats: nothing is inverted."""
        e = self.base.rsample(sample_shape)
        with self._full_precision():
            z, log_det = self.transform.call_and_ladj(e)
        return z, self._base_log_prob(e) - log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """Log p(z), (...), in nats."""
        # Coupling layers do not broadcast their input against their context.
        value = value.expand(torch.broadcast_shapes(value.shape, self.base.loc.shape))
        with self._full_precision():
            e, log_det = self.transform.inv.call_and_ladj(value)
        return self._base_log_prob(e) + log_det

    def _full_precision(self) -> torch.autocast:
        """Under autocast too: the nets of the layers run only now, and a sum of log-determinants needs its digits."""
        return torch.autocast(self.base.loc.device.type, enabled=False)

    def _base_log_prob(self, e: Tensor) -> Tensor:
        log_p: Tensor = self.base.log_prob(e)  # type: ignore[no-untyped-call]
        return log_p
