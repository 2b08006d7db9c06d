"""Every metric against one axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

from nelbo.sweeps.cells.values import is_number, show
from nelbo.sweeps.report.cell_table import Axis, SweepTable
from nelbo.sweeps.report.results_file import ACTIVE, DISTORTION, NELBO, NLL, RATE
from nelbo.sweeps.report.scales import GREY, Picture, is_logarithmic, logarithmic, new_figure, plain

NAMES = {
    NELBO: "negative ELBO, nats per image",
    NLL: "negative log-likelihood, nats per image",
    ACTIVE: "active units",
    RATE: "rate (KL), nats per image",
    DISTORTION: "distortion, nats per image",
}


def profiles(table: SweepTable, metrics: Sequence[str], axis: Axis, *, alone: bool) -> Picture:
    """Metrics against an axis; a line with a band over seeds if it is the only one."""
    columns = 2 if len(metrics) in (2, 4) else min(3, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = new_figure(4.3 * columns, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flat
    positions = {
        value: float(value) if axis.numeric and is_number(value) else index for index, value in enumerate(axis.values)
    }
    for panel, metric in zip(panels, metrics, strict=False):
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
            logarithmic(panel.xaxis)
        if not axis.numeric or len(positions) <= 8:
            panel.set_xticks(list(positions.values()), [show(value) for value in positions])
            panel.minorticks_off()
        panel.set_xlabel(axis.key)
        panel.set_title(NAMES[metric], fontsize=10)
        plain(panel)
    for panel in list(figure.axes)[len(metrics) :]:
        panel.set_axis_off()
    told = f"Test images against {axis.key}; band or bars: one standard deviation over seeds, where there are several."
    if not alone:
        told += f" The points differ in {', '.join(other.key for other in table.swept if other is not axis)} too."
    return Picture("profiles" if alone else f"profiles_{axis.label}", f"Metrics against {axis.key}", told, figure)
