"""Metrics of single latent units.

Shapes: B batch, D latent dimensions.
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
"""Threshold of Burda et al. 2016: a unit is active if the variance over x of E_q[z|x] exceeds it."""

TOP_LEVEL = "top_level_"
"""Prefix of the names of what was measured on the top level alone of a model with several."""


class ActiveUnits(TraceMetric):
    """The number of active units, those with Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, section 5.2).

    If E_q(z|x)[z] has no closed form (a flow), the variance is estimated by the covariance of two independent estimates
    of it, so that their noise does not count as activity.

    With several levels these are units of the top level: below it the mean of a unit also varies with the levels above,
    whether or not the unit has information of its own.

    Args:
        trace: an example of the traces to come, which sets the number of units.
    """

    moments: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_state("moments", torch.zeros(4, trace.latents[0].q.event_shape.numel()), dist_reduce_fx=merged)

    @staticmethod
    def key(trace: Trace) -> str:
        """Return the key of the number in the results of models with traces like `trace`."""
        return "active_units" if len(trace.latents) == 1 else f"{TOP_LEVEL}active_units"

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether the top level is continuous and two estimates of its mean are available."""
        latent = trace.latents[0]
        return latent.is_continuous and (len(latent.q.batch_shape) < 2 or len(latent.z) > 1)

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        first, second = mean_estimates(trace.latents[0])
        self.moments = merged(torch.stack([self.moments, moments(first, second).to(self.moments)]))

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Load a state from a checkpoint.

        Args:
            state: the `metric_state` of another `ActiveUnits`, or the sums that earlier versions stored in its place.
        """
        if "product" in state:
            size, first, second = (state[name].double() for name in ("count", "first", "second"))
            products = state["product"].double() - first * second / size
            state = {"moments": torch.stack([size.expand_as(first), first / size, second / size, products])}
        self.moments = state["moments"].to(self.moments)

    def variances(self) -> Tensor:
        """Return Var_x(E_q(z|x)[z]) of each unit, (D,)."""
        return covariance(self.moments)

    def compute(self) -> Tensor:
        """Return the number of active units."""
        return (self.variances() > ACTIVE_VARIANCE).sum().float()


def mean_estimates(latent: Latent) -> tuple[Tensor, Tensor]:
    """Return two estimates of E_q[z|x], each (B, D), with independent errors.

    They come from `two_means`. If q differs between samples, each uses one half of the samples.
    """
    batch = len(latent.q.batch_shape)
    first, second = (mean.flatten(batch) for mean in two_means(latent.q))
    if batch == 2:
        half = len(first) // 2
        first, second = first[:half], second[half:]
    return latent.over_examples(first), latent.over_examples(second)


class KLPerUnit(TraceMetric):
    """KL(q(z_i|x) || p(z_i)) of each unit of all levels in nats, (D,), averaged over examples, for factorised q and p.

    A unit is a dimension of z, a channel of a map, or a variable with K classes. Those of the top level are first.

    Args:
        trace: an example of the traces to come, which sets the number of units.
    """

    total: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_sum("total", (kl_per_unit(trace).shape[-1],))
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether q and p factorise over units at every level, with a KL in closed form."""
        try:
            kl_per_unit(trace)
        except NotImplementedError:
            return False
        return True

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        self.total += kl_per_unit(trace).sum(dim=0)
        self.count += len(trace.x)

    def compute(self) -> Tensor:
        """Return the means; `values` has a fixed shape."""
        return self.total / self.count

    def values(self) -> Tensor:
        """Return the means over all processes, (D,).

        torchmetrics squeezes the result of `compute` to a scalar if D is 1.
        """
        return self.compute().reshape(-1)


def kl_per_unit(trace: Trace) -> Tensor:
    """Return the KL of each unit of each example in nats, (B, D)."""
    return torch.cat([latent.unit_kl for latent in trace.latents], dim=-1)
