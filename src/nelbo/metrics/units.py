"""Metrics with one number a latent unit.

Shapes: B batch, D latent dimensions of all levels together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal
from nelbo.metrics.base import TraceMetric
from nelbo.trace import Trace

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active if the variance over x of E_q[z] exceeds this."""


class ActiveUnits(TraceMetric):
    """How many units have Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, section 5.2).

    Args:
        trace: one like those to come, for the number of units.
    """

    total: Tensor
    total_square: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        units = _means(trace).shape[-1]
        self.add_sum("total", (units,))
        self.add_sum("total_square", (units,))
        self.add_sum("count")

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        means = _means(trace)
        self.total += means.sum(dim=0)
        self.total_square += means.square().sum(dim=0)
        self.count += len(means)

    def variances(self) -> Tensor:
        """Var_x(E_q[z]), (D,)."""
        return self.total_square / self.count - (self.total / self.count).square()

    def compute(self) -> Tensor:
        """The number of active units."""
        return (self.variances() > ACTIVE_VARIANCE).sum().float()


class KLPerUnit(TraceMetric):
    """KL(q(z_i|x) || p(z_i)) of each unit, (D,), in nats, averaged over examples; for factorised q and p.

    Args:
        trace: one like those to come, for the number of units.
    """

    total: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_sum("total", (_means(trace).shape[-1],))
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Both q and p are diagonal Gaussians at every level."""
        pairs = [distribution for latent in trace.latents for distribution in (latent.q, latent.p)]
        return all(isinstance(distribution, DiagonalNormal) for distribution in pairs)

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        self.total += kl_per_unit(trace).sum(dim=0)
        self.count += len(trace.x)

    def compute(self) -> Tensor:
        """The means, (D,)."""
        return self.total / self.count


def kl_per_unit(trace: Trace) -> Tensor:
    """KL of each unit of each example, (B, D), in nats."""
    parts = []
    for latent in trace.latents:
        assert isinstance(latent.q, DiagonalNormal) and isinstance(latent.p, DiagonalNormal)
        parts.append(latent.q.kl_per_unit(latent.p))
    return torch.cat(parts, dim=-1)


def _means(trace: Trace) -> Tensor:
    """E_q[z] of every unit, (B, D)."""
    return torch.cat([latent.q.mean for latent in trace.latents], dim=-1)
