"""Metrics with one number a latent unit.

Shapes: B batch, D latent dimensions of all levels together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import two_means
from nelbo.metrics.base import TraceMetric
from nelbo.trace import Trace

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active if the variance over x of E_q[z] exceeds this."""


class ActiveUnits(TraceMetric):
    """How many units have Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, section 5.2).

    Where E_q[z] has no closed form (a flow), the variance is the covariance of two independent estimates of it: noise
    in them would count as activity otherwise.

    Args:
        trace: one like those to come, for the number of units.
    """

    first: Tensor
    second: Tensor
    product: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        units = sum(latent.z.shape[-1] for latent in trace.latents)
        for state in ("first", "second", "product"):
            self.add_sum(state, (units,))
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Units are numbers, not classes."""
        return all(latent.is_continuous for latent in trace.latents)

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        pairs = [two_means(latent.q) for latent in trace.latents]
        first, second = (torch.cat(means, dim=-1) for means in zip(*pairs, strict=True))
        self.first += first.sum(dim=0)
        self.second += second.sum(dim=0)
        self.product += (first * second).sum(dim=0)
        self.count += len(trace.x)

    def variances(self) -> Tensor:
        """Var_x(E_q[z]), (D,)."""
        return self.product / self.count - (self.first / self.count) * (self.second / self.count)

    def compute(self) -> Tensor:
        """The number of active units."""
        return (self.variances() > ACTIVE_VARIANCE).sum().float()


class KLPerUnit(TraceMetric):
    """KL(q(z_i|x) || p(z_i)) of each unit, (D,), in nats, averaged over examples; for factorised q and p.

    A unit is a dimension, or a variable of K classes.

    Args:
        trace: one like those to come, for the number of units.
    """

    total: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_sum("total", (kl_per_unit(trace).shape[-1],))
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Both q and p are independent over units, at every level, with a closed KL."""
        try:
            kl_per_unit(trace)
        except NotImplementedError:
            return False
        return True

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        self.total += kl_per_unit(trace).sum(dim=0)
        self.count += len(trace.x)

    def compute(self) -> Tensor:
        """The means, (D,)."""
        return self.total / self.count


def kl_per_unit(trace: Trace) -> Tensor:
    """KL of each unit of each example, (B, D), in nats."""
    return torch.cat([latent.unit_kl for latent in trace.latents], dim=-1)
