"""Metrics: a Trace to a sum-reduced state, each example counted once."""

from nelbo.metrics.base import TraceMetric
from nelbo.metrics.examples import BitsPerDim, ExampleMean, standard_metrics
from nelbo.metrics.units import ActiveUnits, KLPerUnit

__all__ = ["ActiveUnits", "BitsPerDim", "ExampleMean", "KLPerUnit", "TraceMetric", "standard_metrics"]
