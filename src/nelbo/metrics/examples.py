"""Metrics that average one value per example.

Shapes: S Monte Carlo samples, B batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor
from torchmetrics import MetricCollection

from nelbo import distributions
from nelbo.distributions import ObservedPixels
from nelbo.metrics.base import TraceMetric
from nelbo.metrics.codes import CodePerplexity
from nelbo.metrics.units import ActiveUnits
from nelbo.trace import Trace


def reconstruction(trace: Trace) -> Tensor:
    """Return the reconstruction term -log p(x|z) in nats, (B,), averaged over S."""
    return -trace.over_samples(trace.log_px)


def kl(trace: Trace) -> Tensor:
    """Return KL(q(z|x) || p(z)) in nats, (B,), averaged over S."""
    return trace.over_samples(trace.kl)


def kl_of_level(trace: Trace, *, level: int) -> Tensor:
    """Return the KL of one level in nats, (B,), averaged over S.

    Args:
        trace: the trace.
        level: 0 for the top.
    """
    return trace.over_samples(trace.latents[level].kl)


def nelbo(trace: Trace) -> Tensor:
    """Return the negative ELBO in nats, (B,): reconstruction + KL, with a weight of 1."""
    return reconstruction(trace) + kl(trace)


class ExampleMean(TraceMetric):
    """The mean over examples of a value per example.

    Args:
        value: function of a trace that returns the values, (B,), such as `nelbo`.
    """

    total: Tensor
    count: Tensor

    def __init__(self, value: Callable[[Trace], Tensor]) -> None:
        super().__init__()
        self.value = value
        self.add_sum("total")
        self.add_sum("count")

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        values = self.value(trace)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / self.count


class BitsPerDim(ExampleMean):
    """The negative ELBO in bits per dimension, nats / (C H W log 2).

    It is an upper bound on the expected code length per pixel and channel.

    It is defined for probabilities of discrete pixels, and for densities of uniformly dequantised pixels (v + u) / L,
    u ~ U[0, 1). The latter bound L times the probability of v, which adds log2 L bits (Theis et al. 2016, eq. 3).

    Args:
        dequantized_levels: L for dequantised pixels, None for discrete ones.
    """

    def __init__(self, dequantized_levels: int | None) -> None:
        super().__init__(lambda trace: bits_per_dim(nelbo(trace), trace.x.shape[1:], dequantized_levels))


class LabelAccuracy(TraceMetric):
    """The share of examples whose label a model infers correctly, of those whose label is known and was withheld.

    The inferred label is the most probable class of q(y|x).
    """

    correct: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("correct")
        self.add_sum("count")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether the model infers a label."""
        return trace.label is not None

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        assert trace.label is not None
        if (truth := trace.withheld.get(trace.label.name)) is None:
            return
        inferred = trace.label.classifier.logits.squeeze(-2).argmax(-1)
        self.correct += (inferred == truth).sum()
        self.count += (truth >= 0).sum()

    def compute(self) -> Tensor:
        """Return the share; NaN if no label was withheld."""
        return self.correct / self.count


def bits_per_dim(nats: Tensor, shape: Sequence[int], dequantized_levels: int | None) -> Tensor:
    """Convert nats per image to bits per dimension; see `BitsPerDim`.

    Example:
        >>> bits_per_dim(Tensor([64 * math.log(2)]), (1, 8, 8), None)
        tensor([1.])

    Args:
        nats: any shape.
        shape: (C, H, W) of the images.
        dequantized_levels: L for uniformly dequantised pixels, None for discrete ones.
    """
    bits = math.log2(dequantized_levels) if dequantized_levels else 0.0
    return bits + nats / (math.prod(shape) * math.log(2))


def is_discrete(trace: Trace) -> bool:
    """Return whether p(x|z) is a probability mass function rather than a density."""
    return distributions.is_discrete(trace.px)


def counts_bits(trace: Trace, dequantized_levels: int | None) -> bool:
    """Return whether there are bits per dimension: of whole images, whose pixels are discrete or dequantised."""
    return not isinstance(trace.px, ObservedPixels) and (is_discrete(trace) or bool(dequantized_levels))


def standard_metrics(trace: Trace, prefix: str, *, dequantized_levels: int | None) -> MetricCollection:
    """Return the scalar metrics of a run that are defined for traces like `trace`.

    With several levels of latents, the KL of each is among them as `kl_level_1`, ..., and the active units are those of
    the top level, `top_level_active_units`.

    Args:
        trace: an example of the traces to come.
        prefix: prefix of the metrics' names, such as "test/".
        dequantized_levels: the number of levels of uniformly dequantised pixels, otherwise None.
    """
    metrics: dict[str, TraceMetric] = {"reconstruction": ExampleMean(reconstruction)}
    if LabelAccuracy.applies(trace):
        metrics["accuracy"] = LabelAccuracy()
    if ActiveUnits.applies(trace):
        metrics[trace.at_top("active_units")] = ActiveUnits(trace)
    if CodePerplexity.applies(trace):
        metrics["code_perplexity"] = CodePerplexity(trace)
    if trace.has_kl:
        metrics |= {"nelbo": ExampleMean(nelbo), "kl": ExampleMean(kl)}
        for level, name in enumerate(trace.by_level("kl")):
            metrics[name] = ExampleMean(partial(kl_of_level, level=level))
        if counts_bits(trace, dequantized_levels):
            metrics["bits_per_dim"] = BitsPerDim(None if is_discrete(trace) else dequantized_levels)
    return MetricCollection(dict(metrics), prefix=prefix, compute_groups=False)
