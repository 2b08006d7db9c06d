"""Figures of metrics against one axis: all metrics against one, or one metric against each."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nelbo.sweeps.cells.values import Value, format_value, is_number
from nelbo.sweeps.report.cell_table import Axis, Group, Row, SweepTable
from nelbo.sweeps.report.formatting import figure_label
from nelbo.sweeps.report.metric_names import NAMES, axis_label, value_range
from nelbo.sweeps.report.scales import (
    BLUE,
    FEW,
    GREY,
    ROOM,
    SMALL,
    WIDEST,
    Picture,
    Scale,
    add_panel_legend,
    format_log_axis,
    is_logarithmic,
    new_figure,
    remove_frame,
)

COLUMNS = 3
MOST_LABELS = 60
"""The largest number of categories that are all named."""

FULL = 0.5
"""The part of all pairs of values that must have a result for the points of one colour to be joined by a line."""


@dataclass(frozen=True)
class Panel:
    """A metric against an axis.

    Args:
        table: cells that are comparable with each other.
        metric: the metric.
        axis: the axis.
        other: the axis shown by colours; None for one colour.
    """

    table: SweepTable
    metric: str
    axis: Axis
    other: Axis | None

    @functools.cached_property
    def is_pooled(self) -> bool:
        """Whether points are means over all axes but two: those that have results at most pairs of values."""
        pairs = len(self.axis.values) * (len(self.other.values) if self.other else 1)
        return len(self.by_pair) >= FULL * pairs

    @functools.cached_property
    def by_pair(self) -> dict[tuple[Value, Value], Group]:
        """The cells with the metric at each pair of values of the two axes."""
        rows: dict[tuple[Value, Value], list[Row]] = {}
        for group in self.table.groups:
            if group.mean(self.metric) is not None:
                pair = group.values[self.axis.key], group.values[self.other.key] if self.other else None
                rows.setdefault(pair, []).extend(group.rows)
        return {pair: Group(values_of(self, pair), tuple(members)) for pair, members in rows.items()}

    @property
    def pooled(self) -> list[str]:
        """The keys over which points are means, beside the seed."""
        shown = {self.axis.key, self.other.key if self.other else ""}
        return [axis.key for axis in self.table.swept if axis.key not in shown] if self.is_pooled else []


def values_of(panel: Panel, pair: tuple[Value, Value]) -> dict[str, Value]:
    """Return a pair of values of the two axes of a panel by key."""
    first, second = pair
    return {panel.axis.key: first} | ({panel.other.key: second} if panel.other else {})


def profiles(table: SweepTable, metrics: Sequence[str], axis: Axis, other: Axis | None) -> Picture:
    """Draw metrics against an axis, one panel per metric.

    Args:
        table: cells that are comparable with each other.
        metrics: the metrics to draw.
        axis: the horizontal axis.
        other: the axis shown by colours; None if there is no other.
    """
    drawn = [Panel(table, metric, axis, other) for metric in metrics]
    figure = draw_panels(drawn, legends=False)
    caption = f"Test images against {axis.key}. {explain(drawn[0])}"
    name = "profiles" if other is None else "profiles_" + re.sub(r"\W+", "_", axis.key)
    ranges = "; ".join(f"{NAMES[metric]} from {value_range(table, metric)}" for metric in metrics)
    description = f"{len(metrics)} panels against {axis.key}: {ranges}."
    return Picture(name, f"Metrics against {axis.key}", caption, description, figure)


def main_effects(table: SweepTable, metric: str, axes: Sequence[Axis]) -> Picture:
    """Draw a metric against each swept axis, one panel per axis, with the second axis as colours.

    Args:
        table: cells that are comparable with each other.
        metric: the metric.
        axes: all swept axes by importance; in the panel of the second, colours stand for the first.
    """
    first, second, *_ = axes
    drawn = [Panel(table, metric, axis, first if axis is second else second) for axis in axes]
    figure = draw_panels(drawn, legends=True)
    label = axis_label(metric)
    text = [f"{label[0].upper()}{label[1:]}, against each swept key; test images."]
    explained = [explain(panel) for panel in drawn]
    if len(set(explained)) == 1:
        text += explained[:1]
    else:
        text += [f"{panel.axis.key}: {line}" for panel, line in zip(drawn, explained, strict=True)]
    keys = ", ".join(axis.key for axis in axes)
    description = f"{len(axes)} panels of {label} against {keys}: from {value_range(table, metric)}."
    return Picture("main_effects", "Effect of each swept key", " ".join(text), description, figure)


def explain(panel: Panel) -> str:
    """Return what the points of a panel are."""
    others = [
        axis.key for axis in panel.table.swept if axis.key not in (panel.axis.key, getattr(panel.other, "key", ""))
    ]
    if panel.pooled:
        text = f"Points are means over {', '.join(panel.pooled)} and seeds, which are pooled."
    elif panel.other is None:
        text = "Band or bars: one standard deviation over seeds, if there are several."
    else:
        text = "Each point is one setting, the mean over its seeds."
        text += f" The points also differ in {', '.join(others)}." if others else ""
    return text + (f" Colours: {panel.other.key}." if panel.other else "")


def draw_panels(drawn: Sequence[Panel], *, legends: bool) -> Figure:
    """Draw panels in rows.

    Args:
        drawn: the panels.
        legends: whether each has a legend of its own, rather than all one.
    """
    columns = 2 if len(drawn) in (2, 4) else min(COLUMNS, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    upright = [is_upright(panel.axis) for panel in drawn]
    labels = min(MOST_LABELS, max(len(panel.axis.values) for panel in drawn) if not all(upright) else 0)
    height = max(3.5 if legends else 3.1, 0.21 * labels + 1.0)
    width = min(WIDEST, 4.3 * columns)
    figure = new_figure(width, height * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(panels, drawn, strict=False):
        draw(axes, panel)
        if legends:
            axes.set_ylabel(NAMES[panel.metric]) if is_upright(panel.axis) else axes.set_xlabel(NAMES[panel.metric])
        else:
            axes.set_title(axis_label(panel.metric), fontsize=10)
        if legends and panel.other:
            add_panel_legend(Scale(panel.other, None), [axes], panel.other, width / columns)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    if not legends and (other := drawn[0].other):
        add_panel_legend(Scale(other, None), panels, other, width)
    return figure


def is_upright(axis: Axis) -> bool:
    """Return whether an axis is horizontal: categories with too long names for it are on the vertical one."""
    return axis.numeric or sum(len(figure_label(value)) + 2 for value in axis.values) <= ROOM


def draw(axes: Axes, panel: Panel) -> None:
    """Draw a metric against an axis.

    Args:
        axes: where to draw.
        panel: what to draw.
    """
    places = {
        value: float(value) if panel.axis.numeric and is_number(value) else index
        for index, value in enumerate(panel.axis.values)
    }
    upright, scale = is_upright(panel.axis), Scale(panel.other, None)
    if panel.is_pooled or panel.other is None:
        groups = list(panel.by_pair.values())
    else:
        groups = [group for group in panel.table.groups if group.mean(panel.metric) is not None]
    lines: dict[str, list[Group]] = {}
    for group in groups:
        lines.setdefault(format_value(group.values.get(panel.other.key)) if panel.other else "", []).append(group)
    joined = panel.axis.numeric and panel.is_pooled and len(lines) <= FEW
    for line in lines.values():
        x = np.array([places[group.values[panel.axis.key]] for group in line])
        mean = np.array([group.mean(panel.metric) for group in line], dtype=float)
        order = np.argsort(x)
        style: dict[str, Any] = {"color": scale.colour_of(line[0]), "markersize": 4 if len(groups) <= 60 else 3}
        points = (x[order], mean[order])
        axes.plot(*(points if upright else points[::-1]), "o-" if joined else "o", linewidth=1.2, **style)
        if panel.other is None:
            sd = np.array([group.sd(panel.metric) or 0.0 for group in line])
            draw_spread(axes, x[order], mean[order], sd[order], joined=joined, upright=upright)
    label(axes, panel.axis, places, upright=upright)
    remove_frame(axes)


def draw_spread(axes: Axes, x: np.ndarray, mean: np.ndarray, sd: np.ndarray, *, joined: bool, upright: bool) -> None:
    """Draw one standard deviation over seeds on each side of means, as a band along a line, else as bars.

    Args:
        axes: where to draw.
        x: the positions of the means along the axis, (N,).
        mean: the means, (N,).
        sd: the standard deviations, (N,).
        joined: whether a line joins the means.
        upright: whether the axis is horizontal.
    """
    if joined:
        axes.fill_between(x, mean - sd, mean + sd, alpha=0.2, color=BLUE, linewidth=0)
    elif sd.any():
        style: dict[str, Any] = {"linestyle": "none", "color": GREY, "linewidth": 0.8}
        axes.errorbar(x, mean, yerr=sd, **style) if upright else axes.errorbar(mean, x, xerr=sd, **style)


def label(axes: Axes, axis: Axis, places: dict[Value, float], *, upright: bool) -> None:
    """Label an axis: categories and few numbers with their values, many numbers with round ones.

    Args:
        axes: the axes.
        axis: the swept axis.
        places: the position of each of its values.
        upright: whether it is horizontal.
    """
    if is_logarithmic(axis):
        axes.set_xscale("log")
        format_log_axis(axes.xaxis)
    step = math.ceil(len(places) / MOST_LABELS)
    named = list(places.items())[:: step if not axis.numeric else 1]
    texts = [figure_label(value) for value, _ in named]
    if not axis.numeric or (len(places) <= 8 and have_room([place for _, place in named], texts, axis)):
        set_ticks = axes.set_xticks if upright else axes.set_yticks
        set_ticks([place for _, place in named], texts, fontsize=SMALL if len(texts) > 8 else None)
        axes.minorticks_off()
    if not axis.numeric:
        (axes.set_xlim if upright else axes.set_ylim)(-0.5, len(places) - 0.5)
    if upright:
        axes.set_xlabel(axis.key)
    else:
        axes.invert_yaxis()
        axes.set_ylabel(axis.key)


def have_room(places: Sequence[float], texts: Sequence[str], axis: Axis) -> bool:
    """Return whether texts at places along a horizontal axis do not overlap."""
    if len(places) < 2:
        return True
    along = np.log(places) if is_logarithmic(axis) else np.array(places)
    gaps = np.diff(along) / (along[-1] - along[0]) * ROOM
    lengths = np.array([len(text) + 1 for text in texts])
    return bool((gaps >= (lengths[:-1] + lengths[1:]) / 2).all())
