"""Metrics that are the mean of one number an example.

Shapes: S Monte Carlo samples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torchmetrics import MetricCollection

from nelbo.metrics.base import TraceMetric
from nelbo.metrics.units import ActiveUnits
from nelbo.trace import Trace


def reconstruction(trace: Trace) -> Tensor:
    """-log p(x|z), averaged over S, (B,), in nats: the distortion."""
    return -trace.log_px.mean(dim=0)


def kl(trace: Trace) -> Tensor:
    """KL(q(z|x) || p(z)), (B,), in nats: the rate."""
    return trace.kl.mean(dim=0)


def nelbo(trace: Trace) -> Tensor:
    """Reconstruction + KL at beta = 1, (B,), in nats."""
    return reconstruction(trace) + kl(trace)


class ExampleMean(TraceMetric):
    """The mean over examples of `value(trace)`, (B,).

    Args:
        value: a function above.
    """

    total: Tensor
    count: Tensor

    def __init__(self, value: Callable[[Trace], Tensor]) -> None:
        super().__init__()
        self.value = value
        self.add_sum("total")
        self.add_sum("count")

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        values = self.value(trace)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.count


class BitsPerDim(ExampleMean):
    """The negative ELBO in bits a pixel and channel: nats / (C H W log 2), for discrete pixels only."""

    def __init__(self) -> None:
        super().__init__(bits_per_dim)

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Discrete pixels, and an ELBO."""
        support = trace.px.support
        return trace.has_density and support is not None and bool(support.is_discrete)


def bits_per_dim(trace: Trace) -> Tensor:
    """The negative ELBO in bits a dimension, (B,)."""
    return nelbo(trace) / (math.prod(trace.x.shape[1:]) * math.log(2))


def standard_metrics(trace: Trace, prefix: str) -> MetricCollection:
    """The scalars of every run that have a meaning for traces like `trace`, named with `prefix`."""
    metrics: dict[str, TraceMetric] = {
        "reconstruction": ExampleMean(reconstruction),
        "active_units": ActiveUnits(trace),
    }
    if trace.has_density:
        metrics |= {"nelbo": ExampleMean(nelbo), "kl": ExampleMean(kl)}
    if BitsPerDim.applies(trace):
        metrics["bits_per_dim"] = BitsPerDim()
    return MetricCollection(dict(metrics), prefix=prefix, compute_groups=False)
