"""Learning curves of all cells in one picture."""

from __future__ import annotations

import contextlib
import csv
import math
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from nelbo.directories.logs import HISTORY
from nelbo.sweeps.report.cell_table import Group, Row, SweepTable, score
from nelbo.sweeps.report.scales import Picture, Scale, limits, new_figure, plain

METRICS = ("val/nelbo", "val/reconstruction")
MOST_CURVES = 100
LATER = 0.2
"""Of a curve: the share left out when the limits of the picture are chosen."""

HIGHEST = 99.0
"""Percentile of the later parts that is still in sight."""


def learning_curves(table: SweepTable, scale: Scale) -> Picture | None:
    """Validation over epochs; None if no cell was validated."""
    begun = [row for row in table.rows if row.cell.config]
    ranked = sorted(begun, key=lambda row: (score(row), row.cell.state != "running"))
    histories = ((row, history(row.cell.folder)) for row in ranked)
    drawn: list[tuple[Row, list[dict[str, float]]]] = []
    for row, found in histories:
        if found:
            drawn.append((row, found))
        if len(drawn) == MOST_CURVES:
            break
    metric = next((name for name in METRICS if any(name in found[-1] for _, found in drawn)), None)
    if metric is None:
        return None
    figure = new_figure(9, 4.6)
    axes = figure.add_subplot()
    plain(axes)
    later: list[float] = []
    for row, found in drawn:
        points = [(line["epoch"], line[metric]) for line in found if metric in line and "epoch" in line]
        finite = [(epoch, value) for epoch, value in points if math.isfinite(value)]
        if not finite:
            continue
        group = Group(row.values, ())
        style = {"linewidth": 1.0 if len(drawn) <= 30 else 0.6, "alpha": 0.85, "color": scale.colour_of(group)}
        axes.plot(
            *zip(*finite, strict=True),
            "-" if row.done else ":",
            marker="o" if len(finite) < 3 else "",
            markersize=4,
            **style,
        )
        later += [value for _, value in finite[int(LATER * len(finite)) :]]
    told = ["Validation images, a line per cell; dotted where the cell has not finished."]
    if later:
        axes.set_ylim(*limits([min(later), float(np.percentile(later, HIGHEST))]))
        told.append(
            f"The vertical range ends at the {HIGHEST:g}th percentile of the last {100 - 100 * LATER:.0f}% of the"
            " curves, so that first epochs do not squash the rest: curves may enter from above, bad ones stay there."
        )
    if len(drawn) < len(table.rows):
        which = "the best" if len(drawn) == MOST_CURVES else "the others have no validation yet"
        told.append(f"{len(drawn)} of {len(table.rows)} cells are drawn: {which}.")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    name = "negative ELBO" if metric == METRICS[0] else "reconstruction"
    axes.set_ylabel(f"{name}, nats per image")
    Scale(scale.colour, None).explain(axes)
    return Picture("learning_curves", "Learning curves", " ".join(told), figure)


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's history.csv that are whole; a cell that runs may be writing one."""
    found: list[dict[str, float]] = []
    with contextlib.suppress(OSError), (folder / HISTORY).open(newline="") as stream:
        for row in csv.DictReader(stream):
            with contextlib.suppress(TypeError, ValueError):
                found.append({key: float(value) for key, value in row.items()})
    return found
