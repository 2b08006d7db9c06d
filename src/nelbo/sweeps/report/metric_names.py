"""The metrics that a report shows, with their names in text, tables and figures."""

from __future__ import annotations

from nelbo.sweeps.report.cell_table import SweepTable
from nelbo.sweeps.report.formatting import describe_values, format_number

NELBO, NLL, ACTIVE_UNITS = "test/nelbo", "test/nll", "test/active_units"
KL, RECONSTRUCTION = "test/kl", "test/reconstruction"
"""Rate and distortion of the rate-distortion plane."""

NAMES = {
    NELBO: "negative ELBO",
    NLL: "importance-sampled NLL",
    ACTIVE_UNITS: "active units",
    KL: "KL",
    RECONSTRUCTION: "reconstruction",
}
"""Metrics in the order in which a report shows them."""


def axis_label(metric: str) -> str:
    """Return the name of a metric with its unit.

    >>> axis_label("test/nelbo"), axis_label("test/active_units")
    ('negative ELBO, nats per image', 'active units')
    """
    return NAMES[metric] if metric == ACTIVE_UNITS else f"{NAMES[metric]}, nats per image"


def value_range(table: SweepTable, metric: str) -> str:
    """Return the smallest and the largest mean of a metric with their settings, for texts in place of figures."""
    values = [(mean, group) for group in table.groups if (mean := group.mean(metric)) is not None]
    low, high = (choose(values, key=lambda pair: pair[0]) for choose in (min, max))
    lowest, highest = (f"{format_number(mean)} at {describe_values(group.values)}" for mean, group in (low, high))
    return f"{lowest} to {highest}"
