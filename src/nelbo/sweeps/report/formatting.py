"""Numbers, means and settings as text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nelbo.sweeps.cells.values import Value, format_value
from nelbo.sweeps.report.cell_table import Group

LONGEST_LABEL = 24
"""The largest number of characters of a value in a figure, where longer text would take the room of the axes."""


def format_number(value: float | None) -> str:
    """Return a number with four significant digits and at most two decimals; a dash for None, NaN and infinity.

    >>> format_number(103.21), format_number(0.0123), format_number(None)
    ('103.2', '0.01', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}".replace("-", "−")
    decimals = max(0, min(2, 3 - int(math.floor(math.log10(max(abs(value), 1e-9))))))
    return f"{value:.{decimals}f}".replace("-", "−")


def format_mean(group: Group, metric: str) -> str:
    """Return the mean ± standard deviation of a metric over seeds; without the latter for a single seed."""
    sd = group.sd(metric)
    return format_number(group.mean(metric)) + (f" ± {format_number(sd)}" if sd is not None else "")


def figure_label(value: Value) -> str:
    """Return a value as text for a figure: of long text, such as a path, the middle is left out.

    >>> figure_label("/scratch/experiments/2024/mnist.npz")
    '/scratch/ex…24/mnist.npz'
    """
    text = format_value(value)
    half = LONGEST_LABEL // 2
    return text if len(text) <= LONGEST_LABEL else f"{text[: half - 1]}…{text[-half:]}"


def describe_values(values: Mapping[str, Value]) -> str:
    """Return swept values as overrides.

    >>> describe_values({"model.latent_dim": 8, "objective.beta": 0.5}), describe_values({})
    ('model.latent_dim=8, objective.beta=0.5', 'all cells')
    """
    return ", ".join(f"{key}={format_value(value)}" for key, value in values.items()) or "all cells"
