"""Metrics that accumulate over traces, counting each example once, and combine across processes."""

from nelbo.metrics.base import TraceMetric
from nelbo.metrics.codes import CodePerplexity
from nelbo.metrics.examples import BitsPerDim, ExampleMean, bits_per_dim, counts_bits, is_discrete, standard_metrics
from nelbo.metrics.information import MutualInformation
from nelbo.metrics.units import ActiveUnits, KLPerUnit, has_unit_kl

__all__ = [
    "ActiveUnits",
    "BitsPerDim",
    "CodePerplexity",
    "ExampleMean",
    "KLPerUnit",
    "MutualInformation",
    "TraceMetric",
    "bits_per_dim",
    "counts_bits",
    "has_unit_kl",
    "is_discrete",
    "standard_metrics",
]
