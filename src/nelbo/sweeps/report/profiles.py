"""Figures of all metrics against one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from nelbo.sweeps.cells.values import Value, is_number
from nelbo.sweeps.report.cell_table import Axis, SweepTable
from nelbo.sweeps.report.formatting import figure_label
from nelbo.sweeps.report.metric_names import axis_label
from nelbo.sweeps.report.scales import GREY, Picture, format_log_axis, is_logarithmic, new_figure, remove_frame


def profiles(table: SweepTable, metrics: Sequence[str], axis: Axis, *, alone: bool) -> Picture:
    """Draw metrics against an axis, one panel per metric.

    Args:
        table: cells that are comparable with each other.
        metrics: the metrics to draw.
        axis: the horizontal axis.
        alone: whether it is the only swept axis; a numeric one then gets lines with bands over seeds.
    """
    columns = 2 if len(metrics) in (2, 4) else min(3, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = new_figure(4.3 * columns, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    positions = {
        value: float(value) if axis.numeric and is_number(value) else index for index, value in enumerate(axis.values)
    }
    for panel, metric in zip(panels, metrics, strict=False):
        draw(panel, table, metric, axis, positions, alone=alone)
    for panel in list(figure.axes)[len(metrics) :]:
        panel.set_axis_off()
    caption = f"Test images against {axis.key}. Band or bars: one standard deviation over seeds, if there are several."
    if not alone:
        caption += f" The points also differ in {', '.join(other.key for other in table.swept if other is not axis)}."
    return Picture("profiles" if alone else f"profiles_{axis.label}", f"Metrics against {axis.key}", caption, figure)


def draw(
    panel: Axes, table: SweepTable, metric: str, axis: Axis, positions: dict[Value, float], *, alone: bool
) -> None:
    """Draw one metric into a panel.

    Args:
        panel: where to draw.
        table: cells that are comparable with each other.
        metric: the metric.
        axis: the horizontal axis.
        positions: the horizontal position of each of its values.
        alone: whether it is the only swept axis.
    """
    groups = [group for group in table.groups if group.mean(metric) is not None]
    x = np.array([positions[group.values[axis.key]] for group in groups])
    mean = np.array([group.mean(metric) for group in groups], dtype=float)
    sd = np.array([group.sd(metric) or 0.0 for group in groups])
    joined = alone and axis.numeric
    panel.plot(x, mean, "o-" if joined else "o", color=colormaps["viridis"](0.3), markersize=4 if alone else 2.5)
    if joined:
        panel.fill_between(x, mean - sd, mean + sd, alpha=0.2, color=colormaps["viridis"](0.3), linewidth=0)
    elif sd.any():
        panel.errorbar(x, mean, yerr=sd, linestyle="none", color=GREY, linewidth=0.8)
    if is_logarithmic(axis):
        panel.set_xscale("log")
        format_log_axis(panel.xaxis)
    if not axis.numeric or len(positions) <= 8:
        panel.set_xticks(list(positions.values()), [figure_label(value) for value in positions])
        panel.minorticks_off()
    panel.set_xlabel(axis.key)
    panel.set_title(axis_label(metric), fontsize=10)
    remove_frame(panel)
