"""Metrics of single latent units.

A unit is an element of a vector, a channel of a map, or a one-hot code. Shapes: B batch, U units.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nelbo.distributions import two_means
from nelbo.metrics.base import TraceMetric
from nelbo.metrics.moments import covariance, merged, moments
from nelbo.trace import Latent, Trace, unit_names

ACTIVE_VARIANCE = 0.01
"""Threshold of Burda et al. 2016: a unit is active if the variance over x of E_q[z|x] exceeds it."""


class ActiveUnits(TraceMetric):
    """The number of active units of the top level, those with Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, 5.2).

    Levels below the top are left out: q of these depends on samples of the levels above, and so does its mean. If
    E_q(z|x)[z] has no closed form (a flow), the variance is estimated by the covariance of two independent estimates of
    it, so that their noise does not count as activity. The variance of a channel of a map is the mean over its places.

    Args:
        trace: an example of the traces to come, which sets the number of units.
    """

    moments: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.event = trace.latents[0].q.event_shape
        self.add_state("moments", torch.zeros(4, self.event.numel()), dist_reduce_fx=merged)

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether the latents are continuous and two estimates of their means are available."""
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
        """Return Var_x(E_q(z|x)[z]) of each unit, (U,)."""
        elements = covariance(self.moments)
        return elements.reshape(self.event).flatten(1).mean(-1) if len(self.event) > 1 else elements

    def compute(self) -> Tensor:
        """Return the number of active units."""
        return (self.variances() > ACTIVE_VARIANCE).sum().float()


def mean_estimates(latent: Latent) -> tuple[Tensor, Tensor]:
    """Return two estimates of E_q[z|x] of each element, each (B, D), with independent errors.

    They come from `two_means`. If q differs between samples, each uses one half of the samples.
    """
    batch = len(latent.q.batch_shape)
    first, second = (mean.flatten(batch) for mean in two_means(latent.q))
    if batch == 2:
        half = len(first) // 2
        first, second = first[:half], second[half:]
    return latent.over_examples(first), latent.over_examples(second)


class KLPerUnit(TraceMetric):
    """KL(q(z_i|x) || p(z_i)) of each unit in nats, (U,), averaged over examples, of the levels that factorise.

    The units of all these levels follow each other, top level first. A level whose q or p does not factorise, such as a
    flow, has no KL of single units and is left out.

    Args:
        trace: an example of the traces to come, which sets the numbers of levels and units.
    """

    total: Tensor
    count: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        names = unit_names([latent.q.event_shape[0] for latent in trace.latents])
        self.levels = [level for level, latent in enumerate(trace.latents) if has_unit_kl(latent)]
        self.names_by_level = [names[level] for level in self.levels]
        self.is_single = len(trace.latents) == 1
        self.add_sum("total", (len(self.names()),))
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether q and p of a level factorise over units, with a KL in closed form."""
        return any(has_unit_kl(latent) for latent in trace.latents)

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        self.total += torch.cat([trace.latents[level].unit_kl for level in self.levels], dim=-1).sum(dim=0)
        self.count += len(trace.x)

    def compute(self) -> Tensor:
        """Return the means; `values` has a fixed shape."""
        return self.total / self.count

    def values(self) -> Tensor:
        """Return the means over all processes, (U,).

        torchmetrics squeezes the result of `compute` to a scalar if U is 1.
        """
        return self.compute().reshape(-1)

    def names(self) -> list[str]:
        """Return the names of the units, as `nelbo.trace.unit_names`."""
        return [name for names in self.names_by_level for name in names]

    def by_level(self, name: str, values: Tensor) -> dict[str, Tensor]:
        """Return values of all units, (U,), in one tensor for each level, by name.

        Args:
            name: the name of the values if there is one level; with several it is followed by `_level_1`, ...
            values: of all units, such as `values()`.
        """
        parts = values.split([len(names) for names in self.names_by_level])
        return {
            name if self.is_single else f"{name}_level_{level + 1}": part
            for level, part in zip(self.levels, parts, strict=True)
        }


def has_unit_kl(latent: Latent) -> bool:
    """Return whether q and p of a level factorise over units, with a KL in closed form."""
    try:
        _ = latent.unit_kl
    except NotImplementedError:
        return False
    return True
