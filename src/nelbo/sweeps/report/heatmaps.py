"""Every metric over the two main axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from nelbo.sweeps.cells.values import Value, show
from nelbo.sweeps.report.cell_table import Axis, Group, Row, SweepTable
from nelbo.sweeps.report.profiles import NAMES, profiles
from nelbo.sweeps.report.results_file import ACTIVE
from nelbo.sweeps.report.scales import Picture, digits, main_axes, new_figure, place

MOST_PANELS = 4
MOST_VALUES = 30
"""On an axis of a heat map; beyond it (a search over real numbers) points are drawn."""

MOST_NUMBERS = 160
Place = tuple[Value, ...]


def heat_maps(table: SweepTable) -> list[Picture]:
    """A picture a metric over two axes, or one picture of all metrics against one."""
    metrics = [metric for metric in NAMES if any(group.mean(metric) is not None for group in table.groups)]
    axes = main_axes(table)
    if not axes or not metrics:
        return []
    if len(axes) == 1 or any(len(axis.values) > MOST_VALUES for axis in axes[:2]):
        return [profiles(table, metrics, axis, alone=len(axes) == 1) for axis in axes[:MOST_PANELS]]
    return [heat_map(table, metric, axes) for metric in metrics]


def heat_map(table: SweepTable, metric: str, axes: Sequence[Axis]) -> Picture:
    """One metric over the first two axes, a panel for each combination of the others, if they are few."""
    down, across, *others = axes
    panels: dict[Place, list[Group]] = {}
    for group in table.groups:
        panels.setdefault(tuple(group.values[axis.key] for axis in others), []).append(group)
    averaged = len(panels) > MOST_PANELS
    if averaged:
        panels = {(): list(table.groups)}
    numbered = is_numbered(down, across)
    side, height = (0.8, 0.55) if numbered else (0.3, 0.24)
    width = min(13.0, max(3.8, side * len(across.values) + 1.2) * len(panels) + 0.3)
    figure = new_figure(width, max(3.0, height * len(down.values) + 1.5))
    means = [value for members in panels.values() for value in averages(members, metric, down, across).values()]
    norm = Normalize(min(means), max(means) if max(means) > min(means) else min(means) + 1)
    drawn = figure.subplots(1, len(panels), squeeze=False)[0]
    for panel, (combination, members) in zip(drawn, panels.items(), strict=True):
        draw(panel, members, metric, down, across, norm)
        if combination:
            panel.set_title(place({o.key: v for o, v in zip(others, combination, strict=True)}), fontsize=9)
    figure.suptitle(NAMES[metric], fontsize=11)
    told = [f"{NAMES[metric][0].upper()}{NAMES[metric][1:]}; test images."]
    if any(group.sd(metric) is not None for group in table.groups):
        told.append("Mean ± standard deviation over seeds." if numbered else "Mean over seeds.")
    if averaged:
        told.append(f"Mean over {', '.join(axis.key for axis in others)} and seeds.")
    if len(means) < len(down.values) * len(across.values) * len(panels):
        told.append("Hatched: no result, and why; a dash where no cell was asked for.")
    return Picture(metric.replace("test/", "heat_map_"), f"Over {down.key} and {across.key}", " ".join(told), figure)


def is_numbered(down: Axis, across: Axis) -> bool:
    """Whether numbers fit."""
    return len(down.values) * len(across.values) <= MOST_NUMBERS


def averages(groups: Sequence[Group], metric: str, down: Axis, across: Axis) -> dict[Place, float]:
    """The mean of a metric at each place that has one."""
    return {
        spot: mean for spot, group in places(groups, down, across).items() if (mean := group.mean(metric)) is not None
    }


def places(groups: Sequence[Group], down: Axis, across: Axis) -> dict[Place, Group]:
    """All cells of each place, as one group."""
    rows: dict[Place, list[Row]] = {}
    for group in groups:
        rows.setdefault((group.values[down.key], group.values[across.key]), []).extend(group.rows)
    return {spot: Group({}, tuple(members)) for spot, members in rows.items()}


def draw(panel: Axes, groups: Sequence[Group], metric: str, down: Axis, across: Axis, norm: Normalize) -> None:
    """One panel."""
    colours = colormaps["viridis_r"] if metric != ACTIVE else colormaps["viridis"]
    found = places(groups, down, across)
    image = np.full((len(down.values), len(across.values)), np.nan)
    numbered = is_numbered(down, across)
    for row, low in enumerate(down.values):
        for column, high in enumerate(across.values):
            group = found.get((low, high))
            mean = group.mean(metric) if group else None
            if group is None or mean is None:
                missing(panel, column, row, why(group) if numbered else "")
                continue
            image[row, column] = mean
            if numbered:
                red, green, blue, _ = colours(norm(mean))
                ink = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.55 else "black"
                sd = group.sd(metric)
                text = digits(mean) + (f"\n± {digits(sd)}" if sd is not None else "")
                size = 9 if len(across.values) <= 10 else 7
                panel.text(column, row, text, ha="center", va="center", color=ink, fontsize=size)
    panel.imshow(image, cmap=colours, norm=norm, aspect="auto", interpolation="nearest")
    panel.set_xticks(
        range(len(across.values)), [show(value) for value in across.values], rotation=0 if numbered else 90
    )
    panel.set_yticks(range(len(down.values)), [show(value) for value in down.values])
    panel.set_xlabel(across.key)
    panel.set_ylabel(down.key, labelpad=8)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    if not numbered:
        assert panel.figure
        panel.figure.colorbar(panel.images[0], ax=panel)


def missing(panel: Axes, column: int, row: int, text: str) -> None:
    """A place without a number."""
    style: dict[str, Any] = {"facecolor": "#f4f4f4", "edgecolor": "#d0d0d0", "hatch": "///", "linewidth": 0}
    panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))
    box = {"facecolor": "#f4f4f4", "edgecolor": "none", "pad": 1.5}
    panel.text(column, row, text, ha="center", va="center", color="#555555", fontsize=8, bbox=box)


def why(group: Group | None) -> str:
    """The state of what has no result."""
    states = dict.fromkeys(row.cell.state for row in group.rows) if group else {}
    return "\n".join(state for state in states if state != "done") or ("no value" if group else "–")
