"""Metrics with one number a latent unit.

Shapes: B batch, D latent dimensions of all levels together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nelbo.distributions import two_means
from nelbo.metrics.base import TraceMetric
from nelbo.metrics.moments import covariance, merged, moments
from nelbo.trace import Latent, Trace

ACTIVE_VARIANCE = 0.01
"""Burda et al. 2016: a unit is active if the variance over x of E_q[z] exceeds this."""


class ActiveUnits(TraceMetric):
    """How many units have Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, section 5.2).

    Where E_q[z] has no closed form (a flow, or a q that depends on samples of another level), the variance is the
    covariance of two independent estimates of it: noise in them would count as activity otherwise.

    Args:
        trace: one like those to come, for the number of units.
    """

    moments: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        units = sum(latent.q.event_shape.numel() for latent in trace.latents)
        self.add_state("moments", torch.zeros(4, units), dist_reduce_fx=merged)

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Units are numbers, not classes, and there are two estimates of their means."""
        return all(
            latent.is_continuous and (len(latent.q.batch_shape) < 2 or len(latent.z) > 1) for latent in trace.latents
        )

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        pairs = [means_of(latent) for latent in trace.latents]
        first, second = (torch.cat(means, dim=-1) for means in zip(*pairs, strict=True))
        self.moments = merged(torch.stack([self.moments, moments(first, second).to(self.moments)]))

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the state of another metric of the kind, from a checkpoint; also the sums that earlier versions kept."""
        if "product" in state:
            size, first, second = (state[name].double() for name in ("count", "first", "second"))
            products = state["product"].double() - first * second / size
            state = {"moments": torch.stack([size.expand_as(first), first / size, second / size, products])}
        self.moments = state["moments"].to(self.moments)

    def variances(self) -> Tensor:
        """Var_x(E_q[z]), (D,)."""
        return covariance(self.moments)

    def compute(self) -> Tensor:
        """The number of active units."""
        return (self.variances() > ACTIVE_VARIANCE).sum().float()


def means_of(latent: Latent) -> tuple[Tensor, Tensor]:
    """E[z|x], (B, D), twice, as of `two_means`; where q differs between samples, from two halves of them."""
    batch = len(latent.q.batch_shape)
    first, second = (mean.flatten(batch) for mean in two_means(latent.q))
    if batch == 2:
        half = len(first) // 2
        first, second = first[:half], second[half:]
    return latent.over_examples(first), latent.over_examples(second)


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
        """The means; see `values`."""
        return self.total / self.count

    def values(self) -> Tensor:
        """The means, (D,), over all processes: what `compute` gives has no dimension where D is 1 (torchmetrics)."""
        return self.compute().reshape(-1)


def kl_per_unit(trace: Trace) -> Tensor:
    """KL of each unit of each example, (B, D), in nats."""
    return torch.cat([latent.unit_kl for latent in trace.latents], dim=-1)
