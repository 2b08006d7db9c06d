"""The learning curves of all cells in one figure."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nelbo.directories.logs import HISTORY
from nelbo.sweeps.report.cell_table import Group, Row, SweepTable, score
from nelbo.sweeps.report.formatting import format_number
from nelbo.sweeps.report.scales import Picture, Scale, limits, new_figure, remove_frame

METRICS = {"val/nelbo": "negative ELBO", "val/reconstruction": "reconstruction"}
"""The metrics of which the first that was logged is drawn, with their names."""

MOST_CURVES = 100
BEGINNING = 0.2
"""The part at the beginning of each curve that is ignored when the limits of the figure are chosen."""

HIGHEST = 99.0
"""The percentile of the remaining values that is the upper limit of the figure."""

History = list[dict[str, float]]
Curve = list[tuple[float, float]]
"""Epochs and values."""


def learning_curves(table: SweepTable, scale: Scale) -> Picture | None:
    """Draw a validation metric over epochs, a line per cell; None if no cell was validated."""
    histories = read_histories(table)
    metric = next((name for name in METRICS if any(name in history[-1] for _, history in histories)), None)
    if metric is None:
        return None
    figure = new_figure(9, 4.6)
    axes = figure.add_subplot()
    remove_frame(axes)
    curves = [(row, curve(history, metric)) for row, history in histories]
    for row, points in curves:
        if points:
            draw(axes, row, points, scale, thin=len(histories) > 30)
    caption = ["Validation images, a line per cell; dotted where the cell has not finished."]
    values = [value for _, points in curves for _, value in points[int(BEGINNING * len(points)) :]]
    if values:
        axes.set_ylim(*limits([min(values), float(np.percentile(values, HIGHEST))]))
        caption.append(
            f"The vertical axis ends at the {HIGHEST:g}th percentile of the values after the first"
            f" {100 * BEGINNING:.0f}% of each curve, so that the first epochs do not compress the rest;"
            " values above it are not visible."
        )
    if len(histories) < len(table.rows):
        which = "the best" if len(histories) == MOST_CURVES else "the others have no validation yet"
        caption.append(f"{len(histories)} of {len(table.rows)} cells are drawn: {which}.")
    epochs = [epoch for _, points in curves for epoch, _ in points]
    if epochs and min(epochs) == max(epochs):  # otherwise Matplotlib labels fractions of epochs
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{METRICS[metric]}, nats per image")
    Scale(scale.colour, None).add_legend(axes)
    last = [points[-1][1] for _, points in curves if points]
    ends = f" from {format_number(min(last))} to {format_number(max(last))} at their ends" if last else ""
    description = f"{METRICS[metric]} on validation images over epochs, of {len(histories)} cells{ends}."
    description = description[0].upper() + description[1:]
    return Picture("learning_curves", "Learning curves", " ".join(caption), description, figure)


def read_histories(table: SweepTable) -> list[tuple[Row, History]]:
    """Read the histories of the cells that have one, the best cells first and at most `MOST_CURVES`."""
    started = [row for row in table.rows if row.cell.config]
    ranked = sorted(started, key=lambda row: (score(row), row.cell.state != "running"))
    histories: list[tuple[Row, History]] = []
    for row in ranked:
        if history := read_history(row.cell.folder):
            histories.append((row, history))
        if len(histories) == MOST_CURVES:
            break
    return histories


def curve(history: Sequence[dict[str, float]], metric: str) -> Curve:
    """Return the finite values of a metric with their epochs."""
    points = [(line["epoch"], line[metric]) for line in history if metric in line and "epoch" in line]
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]


def draw(axes: Axes, row: Row, points: Curve, scale: Scale, *, thin: bool) -> None:
    """Draw the curve of one cell; one or two points get markers."""
    axes.plot(
        *zip(*points, strict=True),
        "-" if row.done else ":",
        marker="o" if len(points) < 3 else "",
        markersize=4,
        linewidth=0.6 if thin else 1.0,
        alpha=0.85,
        color=scale.colour_of(Group(row.values, ())),
    )


def read_history(folder: Path) -> History:
    """Read the complete rows of a run's history.csv, which a running cell may be writing."""
    rows: History = []
    with contextlib.suppress(OSError), (folder / HISTORY).open(newline="") as stream:
        for row in csv.DictReader(stream):
            with contextlib.suppress(TypeError, ValueError):
                rows.append({key: float(value) for key, value in row.items()})
    return rows
