"""Metrics that are the mean of one number an example.

Shapes: S Monte Carlo samples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor
from torchmetrics import MetricCollection

from nelbo import distributions
from nelbo.metrics.base import TraceMetric
from nelbo.metrics.codes import CodePerplexity
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
    """The negative ELBO in bits a pixel and channel: nats / (C H W log 2), a bound on what storing the pixels takes.

    Discrete pixels have probabilities. A density of pixels (v + u) / L, u uniform in [0, 1), bounds L times the
    probability of v, so it costs log2 L bits more (Theis et al. 2016, eq. 3). Other densities have no bits.

    Args:
        dequantized_levels: L, if the pixels are such.
    """

    def __init__(self, dequantized_levels: int | None) -> None:
        super().__init__(lambda trace: bits_per_dim(nelbo(trace), trace.x.shape[1:], dequantized_levels))


def bits_per_dim(nats: Tensor, shape: Sequence[int], dequantized_levels: int | None) -> Tensor:
    """Nats an image (C, H, W) as bits a pixel and channel; see `BitsPerDim`."""
    bits = math.log2(dequantized_levels) if dequantized_levels else 0.0
    return bits + nats / (math.prod(shape) * math.log(2))


def is_discrete(trace: Trace) -> bool:
    """Whether p(x|z) is a probability and no density."""
    return distributions.is_discrete(trace.px)


def standard_metrics(trace: Trace, prefix: str, *, dequantized_levels: int | None) -> MetricCollection:
    """The scalars of every run that have a meaning for traces like `trace`, named with `prefix`.

    Args:
        trace: one like those to come.
        prefix: such as test/.
        dequantized_levels: how many levels uniform noise has filled, if the pixels are such.
    """
    metrics: dict[str, TraceMetric] = {"reconstruction": ExampleMean(reconstruction)}
    if ActiveUnits.applies(trace):
        metrics["active_units"] = ActiveUnits(trace)
    if CodePerplexity.applies(trace):
        metrics["code_perplexity"] = CodePerplexity(trace)
    if trace.has_kl:
        metrics |= {"nelbo": ExampleMean(nelbo), "kl": ExampleMean(kl)}
        if is_discrete(trace) or dequantized_levels:
            metrics["bits_per_dim"] = BitsPerDim(None if is_discrete(trace) else dequantized_levels)
    return MetricCollection(dict(metrics), prefix=prefix, compute_groups=False)
