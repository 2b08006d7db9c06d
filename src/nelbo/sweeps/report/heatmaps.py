"""Figures of each metric over the two main axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nelbo.sweeps.cells.values import Value
from nelbo.sweeps.report.cell_table import Axis, Group, Row, SweepTable
from nelbo.sweeps.report.formatting import describe_values, figure_label, format_number
from nelbo.sweeps.report.metric_names import ACTIVE_UNITS, NAMES, axis_label
from nelbo.sweeps.report.profiles import profiles
from nelbo.sweeps.report.scales import Picture, main_axes, new_figure

MOST_PANELS = 4
MOST_VALUES = 30
"""The largest number of values on an axis of a heat map; with more, as in searches over real numbers, draw points."""

MOST_NUMBERS = 160
"""The largest number of places of a heat map that are labelled with their numbers."""

Point = tuple[Value, ...]


def heat_maps(table: SweepTable) -> list[Picture]:
    """Draw a heat map per metric over the two main axes, or all metrics against one axis where that is clearer."""
    metrics = [metric for metric in NAMES if any(group.mean(metric) is not None for group in table.groups)]
    axes = main_axes(table)
    if not axes or not metrics:
        return []
    if len(axes) == 1 or any(len(axis.values) > MOST_VALUES for axis in axes[:2]):
        return [profiles(table, metrics, axis, alone=len(axes) == 1) for axis in axes[:MOST_PANELS]]
    return [heat_map(table, metric, axes) for metric in metrics]


def heat_map(table: SweepTable, metric: str, axes: Sequence[Axis]) -> Picture:
    """Draw one metric over the first two axes.

    Each combination of the other axes gets a panel; if there are too many, the metric is averaged over them.
    """
    down, across, *others = axes
    panels: dict[Point, list[Group]] = {}
    for group in table.groups:
        panels.setdefault(tuple(group.values[axis.key] for axis in others), []).append(group)
    averaged = len(panels) > MOST_PANELS
    if averaged:
        panels = {(): list(table.groups)}
    means = [value for members in panels.values() for value in averages(members, metric, down, across).values()]
    highest = max(means) if max(means) > min(means) else min(means) + 1
    figure = draw_panels(panels, metric, axes, Normalize(min(means), highest))
    label = axis_label(metric)
    caption = [f"{label[0].upper()}{label[1:]}; test images."]
    if any(group.sd(metric) is not None for group in table.groups):
        numbered = is_numbered(down, across)
        caption.append("Mean ± standard deviation over seeds." if numbered else "Mean over seeds.")
    if averaged:
        caption.append(f"Mean over {', '.join(axis.key for axis in others)} and seeds.")
    if len(means) < len(down.values) * len(across.values) * len(panels):
        caption.append("Hatched: no result, and the reason; a dash where no cell was requested.")
    title = f"Metrics over {down.key} and {across.key}"
    return Picture(metric.replace("test/", "heat_map_"), title, " ".join(caption), figure)


def draw_panels(panels: Mapping[Point, Sequence[Group]], metric: str, axes: Sequence[Axis], norm: Normalize) -> Figure:
    """Draw the panels of a heat map side by side.

    Args:
        panels: the settings of each panel, by the values of all axes but the first two.
        metric: the metric to draw.
        axes: the vertical axis, the horizontal axis and the others.
        norm: from the metric to the colour map, the same for all panels.
    """
    down, across, *others = axes
    side, height = (0.8, 0.55) if is_numbered(down, across) else (0.3, 0.24)
    width = min(13.0, max(3.8, side * len(across.values) + 1.2) * len(panels) + 0.3)
    figure = new_figure(width, max(3.0, height * len(down.values) + 1.5))
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (point, groups) in zip(drawn, panels.items(), strict=True):
        draw(panel, groups, metric, down, across, norm)
        if point:
            values = {axis.key: value for axis, value in zip(others, point, strict=True)}
            panel.set_title(describe_values(values), fontsize=9)
    figure.suptitle(axis_label(metric), fontsize=11)
    return figure


def is_numbered(down: Axis, across: Axis) -> bool:
    """Return whether a heat map over two axes has room for its numbers."""
    return len(down.values) * len(across.values) <= MOST_NUMBERS


def averages(groups: Sequence[Group], metric: str, down: Axis, across: Axis) -> dict[Point, float]:
    """Return the mean of a metric at each pair of values that has one."""
    return {
        point: mean
        for point, group in by_point(groups, down, across).items()
        if (mean := group.mean(metric)) is not None
    }


def by_point(groups: Sequence[Group], down: Axis, across: Axis) -> dict[Point, Group]:
    """Return all cells at each pair of values as one group."""
    rows: dict[Point, list[Row]] = {}
    for group in groups:
        rows.setdefault((group.values[down.key], group.values[across.key]), []).extend(group.rows)
    return {point: Group({}, tuple(members)) for point, members in rows.items()}


def draw(panel: Axes, groups: Sequence[Group], metric: str, down: Axis, across: Axis, norm: Normalize) -> None:
    """Draw one panel of a heat map."""
    colours = colormaps["viridis_r"] if metric != ACTIVE_UNITS else colormaps["viridis"]
    group_at = by_point(groups, down, across)
    image = np.full((len(down.values), len(across.values)), np.nan)
    numbered = is_numbered(down, across)
    for row, vertical in enumerate(down.values):
        for column, horizontal in enumerate(across.values):
            group = group_at.get((vertical, horizontal))
            mean = group.mean(metric) if group else None
            if group is None or mean is None:
                draw_missing(panel, column, row, missing_reason(group) if numbered else "")
                continue
            image[row, column] = mean
            if numbered:
                red, green, blue, _ = colours(norm(mean))
                ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else "black"
                sd = group.sd(metric)
                text = format_number(mean) + (f"\n± {format_number(sd)}" if sd is not None else "")
                size = 9 if len(across.values) <= 10 else 7
                panel.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    panel.imshow(image, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    panel.set_xticks(
        range(len(across.values)), [figure_label(value) for value in across.values], rotation=0 if numbered else 90
    )
    panel.set_yticks(range(len(down.values)), [figure_label(value) for value in down.values])
    panel.set_xlabel(across.key)
    panel.set_ylabel(down.key, labelpad=8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    if not numbered:
        assert panel.figure
        panel.figure.colorbar(panel.images[0], ax=panel)


def draw_missing(panel: Axes, column: int, row: int, text: str) -> None:
    """Draw a place without a number: hatched, with a text."""
    style: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "#d0d0d0", "hatch": "///", "linewidth": 0}
    panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))
    box = {"facecolor": "#f4f4f4", "edgecolor": "none", "pad": 1.5}
    panel.text(column, row, text, ha="center", va="center", color="#555555", fontsize=8, bbox=box)


def missing_reason(group: Group | None) -> str:
    """Return why a place has no number: the states of its cells, `no value`, or a dash where there are no cells."""
    states = dict.fromkeys(row.cell.state for row in group.rows) if group else {}
    return "\n".join(state for state in states if state != "done") or ("no value" if group else "–")
