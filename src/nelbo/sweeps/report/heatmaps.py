"""Figures of each metric over the two main axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nelbo.sweeps.cells.values import Value
from nelbo.sweeps.report.cell_table import Axis, Group, Row, SweepTable
from nelbo.sweeps.report.formatting import describe_values, figure_label, format_number
from nelbo.sweeps.report.metric_names import NAMES, NELBO, NLL, axis_label, value_range
from nelbo.sweeps.report.profiles import main_effects, profiles
from nelbo.sweeps.report.scales import SMALL, WIDEST, Picture, main_axes, new_figure

MOST_PANELS = 4
MOST_VALUES = 30
"""The largest number of values on an axis of a heat map; with more, as in searches over real numbers, draw points."""

MOST_NUMBERS = 160
"""The largest number of places of a heat map that are labelled with their numbers."""

MOST_ACROSS = 13
"""The largest number of values on the horizontal axis of a labelled heat map."""

BETTER = (NELBO, NLL)
"""The metrics of which less is better; of the others neither end is."""

LIGHTEST = 0.1
"""The lightest grey in use, which differs from the white of the page; 1 is black."""

LETTER = 0.085
"""The width of a letter of a tick label in inches, at most."""

Point = tuple[Value, ...]


def heat_maps(table: SweepTable) -> list[Picture]:
    """Draw a heat map per metric over the two main axes, or all metrics against one axis where that is clearer.

    With more than two axes, the first figure has the main metric against each of them.
    """
    metrics = [metric for metric in NAMES if any(group.mean(metric) is not None for group in table.groups)]
    axes = main_axes(table)
    if not axes or not metrics:
        return []
    if len(axes) == 1:
        return [profiles(table, metrics, axes[0], None)]
    first, second, *others = axes
    effects = [main_effects(table, metrics[0], axes)] if others else []
    if max(len(first.values), len(second.values)) > MOST_VALUES:
        return effects + [
            profiles(table, metrics, axis, first if axis is second else second) for axis in axes[:MOST_PANELS]
        ]
    return effects + [heat_map(table, metric, axes) for metric in metrics]


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
    seeds = any(group.sd(metric) is not None for group in table.groups)
    pooled = [axis.key for axis in others] * averaged + ["seeds"] * seeds
    if pooled:
        mean = "Mean ± standard deviation" if is_numbered(down, across) else "Mean"
        caption.append(f"{mean} over {', '.join(pooled)}{', which are pooled' * averaged}.")
    caption.append("Darker is better." if metric in BETTER else "Darker is more; neither end is better.")
    if len(means) < len(down.values) * len(across.values) * len(panels):
        caption.append("Hatched: no result, and the reason; a dash where no cell was requested.")
    title = f"Metrics over {down.key} and {across.key}"
    description = f"Heat map of {NAMES[metric]} over {down.key} and {across.key}: from {value_range(table, metric)}."
    return Picture(metric.replace("test/", "heat_map_"), title, " ".join(caption), description, figure)


def draw_panels(panels: Mapping[Point, Sequence[Group]], metric: str, axes: Sequence[Axis], norm: Normalize) -> Figure:
    """Draw the panels of a heat map, as many side by side as the page is wide.

    Args:
        panels: the settings of each panel, by the values of all axes but the first two.
        metric: the metric to draw.
        axes: the vertical axis, the horizontal axis and the others.
        norm: from the metric to the colour map, the same for all panels.
    """
    down, across, *others = axes
    numbered = is_numbered(down, across)
    side, height = (0.8, 0.55) if numbered else (0.3, 0.24)
    width = max(3.8, side * len(across.values) + 1.2 + LETTER * longest(down) + (0 if numbered else 0.8))
    columns = max(1, min(len(panels), int(WIDEST / width)))
    rows = math.ceil(len(panels) / columns)
    below = LETTER * longest(across) if is_turned(across, side) else 0.2
    high = max(2.8, height * len(down.values) + 1.1 + below + (0.5 if len(panels) > 1 else 0.2))
    figure = new_figure(min(WIDEST, width * columns), high * rows)
    drawn = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, (point, groups) in zip(drawn, panels.items(), strict=False):
        draw(panel, groups, metric, down, across, norm)
        panel.tick_params(axis="x", rotation=90 if is_turned(across, side) else 0)
        if point:
            values = {axis.key: value for axis, value in zip(others, point, strict=True)}
            panel.set_title(describe_values(values).replace(", ", "\n"), fontsize=SMALL)
    for panel in drawn[len(panels) :]:
        panel.set_axis_off()
    figure.suptitle(axis_label(metric), fontsize=11)
    return figure


def is_numbered(down: Axis, across: Axis) -> bool:
    """Return whether a heat map over two axes has room for its numbers."""
    return len(across.values) <= MOST_ACROSS and len(down.values) * len(across.values) <= MOST_NUMBERS


def longest(axis: Axis) -> int:
    """Return the number of characters of the longest label of an axis."""
    return max(len(figure_label(value)) for value in axis.values)


def is_turned(axis: Axis, side: float) -> bool:
    """Return whether the labels of a horizontal axis are too long to stand beside each other.

    Args:
        axis: the axis.
        side: the inches from one value to the next.
    """
    return LETTER * (longest(axis) + 1) > side


def colour_map(metric: str) -> Colormap:
    """Return the colour map of a metric: in grey where neither end is better."""
    greys = colormaps["Greys"](np.linspace(LIGHTEST, 1, 256))
    return colormaps["viridis"] if metric in BETTER else ListedColormap(greys, "greys")


def ink_on(red: float, green: float, blue: float) -> str:
    """Return black or white, whichever has the higher contrast to a colour by its relative luminance.

    >>> ink_on(1.0, 1.0, 0.0), ink_on(0.0, 0.0, 0.5)
    ('black', 'white')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


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
    colours = colour_map(metric)
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
                sd = group.sd(metric)
                text = format_number(mean) + (f"\n± {format_number(sd)}" if sd is not None else "")
                ink = ink_on(red, green, blue)
                panel.text(column, row, text, ha="center", va="center", color=ink, fontsize=SMALL)
    panel.imshow(image, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    panel.set_xticks(range(len(across.values)), [figure_label(value) for value in across.values])
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
    panel.text(column, row, text, ha="center", va="center", color="#555555", fontsize=SMALL, bbox=box)


def missing_reason(group: Group | None) -> str:
    """Return why a place has no number: the states of its cells, `no value`, or a dash where there are no cells."""
    states = dict.fromkeys(row.cell.state for row in group.rows) if group else {}
    return "\n".join(state for state in states if state != "done") or ("no value" if group else "–")
