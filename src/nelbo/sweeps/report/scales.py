"""Colours, markers and axes that all figures of a sweep share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nelbo.sweeps.cells.values import is_number
from nelbo.sweeps.report.cell_table import Axis, Group, SweepTable
from nelbo.sweeps.report.formatting import figure_label

BETA, LATENTS = "objective.beta", "model.latent_dim"
DPI = 150
MARKERS = "osD^vPX<>ph*"
GREY = "#6f6f6f"
INK = "#222222"
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
"""Colours of categories, which people with any of the usual colour blindnesses can tell apart (Okabe and Ito)."""

FEW = 10
"""The largest number of values that a legend lists; more numbers get a colour bar."""

WIDEST = 11.7
"""The largest width of a figure in inches, which is that of the page."""

ROOM = 34
"""The number of characters for which there is room below a panel."""

SMALL = 9
"""The smallest size of text in points: 12 CSS pixels in the page."""

COLOUR_RANGE = 0.92
"""The part of the colour map in use: its last yellow is hard to see on white."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn figure with its description.

    Args:
        name: the name of its file, without suffix.
        title: the heading above it.
        caption: what it shows, in sentences.
        description: the text that stands for it where it is not shown, such as for blind readers.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
    description: str
    figure: Figure


@dataclass
class Scale:
    """A colour for each value of one axis and a marker for each value of another.

    Args:
        colour: the axis shown by colours; None for one colour.
        marker: the axis shown by markers; None for one marker.
    """

    colour: Axis | None
    marker: Axis | None
    norm: Normalize | None = field(init=False, default=None)
    colours: Colormap = field(init=False)

    def __post_init__(self) -> None:
        self.colours = colormaps["viridis"].resampled(256)
        if self.colour and self.colour.numeric:
            low, high = float(self.colour.values[0] or 0), float(self.colour.values[-1] or 0)
            self.norm = LogNorm(low, high) if is_logarithmic(self.colour) else Normalize(low, high)

    def colour_of(self, group: Group) -> Any:
        """Return the colour of a setting."""
        if self.colour is None:
            return BLUE
        value = group.values.get(self.colour.key)
        if self.norm is not None and is_number(value):
            return self.colours(COLOUR_RANGE * self.norm(value))
        if len(self.colour.values) <= len(PALETTE):
            return PALETTE[self.colour.values.index(value)]
        return self.colours(COLOUR_RANGE * self.colour.values.index(value) / (len(self.colour.values) - 1))

    def marker_of(self, group: Group) -> str:
        """Return the marker of a setting."""
        if self.marker is None:
            return MARKERS[0]
        return MARKERS[self.marker.values.index(group.values.get(self.marker.key)) % len(MARKERS)]

    def add_legend(self, axes: Axes) -> None:
        """Add a legend beside the axes, and a colour bar if the colours stand for many numbers."""
        handles: list[Line2D] = []
        if self.colour and (self.norm is None or len(self.colour.values) <= FEW):
            handles.append(_heading(self.colour.key))
            handles += self.colour_handles()
        elif self.colour:
            self.add_bar([axes])
        if self.marker:
            if handles:
                handles.append(_heading(""))
            handles.append(_heading(self.marker.key))
            for value in self.marker.values[: len(MARKERS)]:
                marker = self.marker_of(Group({self.marker.key: value}, ()))
                handles.append(_handle(marker, GREY, figure_label(value)))
        if handles:
            position: dict[str, Any] = {"loc": "outside right upper"}
            axes.figure.legend(handles=handles, frameon=False, fontsize=SMALL, **position)

    def colour_handles(self) -> list[Line2D]:
        """Return the entries of a legend for the values shown by colours; of very many, the first."""
        values = self.colour.values if self.colour else ()
        key = self.colour.key if self.colour else ""
        handles = [
            _handle("o", self.colour_of(Group({key: value}, ())), figure_label(value)) for value in values[: 2 * FEW]
        ]
        return handles + ([_heading(f"and {len(values) - 2 * FEW} more")] if len(values) > 2 * FEW else [])

    def add_bar(self, axes: Sequence[Axes]) -> None:
        """Add a colour bar on the right of axes."""
        assert self.colour is not None
        mappable = ScalarMappable(self.norm, _shortened(self.colours))
        bar = axes[0].figure.colorbar(mappable, ax=list(axes), pad=0.02, fraction=0.05)
        bar.set_label(self.colour.key)
        if isinstance(self.norm, LogNorm):
            format_log_axis(bar.ax.yaxis)


def add_panel_legend(scale: Scale, panels: Sequence[Axes], axis: Axis, width: float) -> None:
    """Add a legend of colours above a panel or, for several, above the figure; a colour bar for many numbers.

    Args:
        scale: the colours.
        panels: the axes that it is for.
        axis: the axis shown by colours.
        width: the inches that it may be wide.
    """
    if scale.norm is not None and len(axis.values) > FEW:
        scale.add_bar(panels)
        return
    handles = scale.colour_handles()
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width * 9 / (longest + 6))))
    style: dict[str, Any] = {
        "handles": handles, "title": axis.key, "ncols": columns, "frameon": False, "fontsize": SMALL,
        "title_fontsize": SMALL, "handletextpad": 0.2, "columnspacing": 1.0,
    }  # fmt: skip
    if len(panels) > 1:
        panels[0].figure.legend(loc="outside upper center", **style)
    else:
        panels[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), **style)


def _heading(text: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=text)


def _handle(marker: str, colour: Any, text: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color=colour, markeredgecolor=INK, label=text)


def _shortened(colours: Colormap) -> Colormap:
    return ListedColormap([colours(COLOUR_RANGE * step / 255) for step in range(256)])


def is_logarithmic(axis: Axis) -> bool:
    """Return whether an axis is drawn logarithmically: its values are positive and span more than a factor of 4."""
    if not axis.numeric:
        return False
    low, high = float(axis.values[0] or 0), float(axis.values[-1] or 0)
    return low > 0 and high / low > 4


def main_axes(table: SweepTable) -> list[Axis]:
    """Return the swept axes by importance: the number of latents, beta, other numbers, then the rest."""
    order = {LATENTS: 0, BETA: 1}
    return sorted(table.swept, key=lambda axis: (order.get(axis.key, 2), not axis.numeric))


def scale_of(table: SweepTable) -> Scale:
    """Return the scale of a sweep: beta as colours and the number of latents as markers, where they were swept."""
    axes = main_axes(table)
    colour = next((axis for axis in axes if axis.key == BETA), axes[0] if axes else None)
    rest = [axis for axis in axes if axis is not colour and len(axis.values) <= len(MARKERS)]
    return Scale(colour, rest[0] if rest else None)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def remove_frame(axes: Axes) -> None:
    """Remove the lines at the top and on the right of the axes."""
    axes.spines[["top", "right"]].set_visible(False)


def format_log_axis(axis: XAxis | YAxis) -> None:
    """Label the ticks of a logarithmic axis with plain numbers, those of powers of ten if there is no room for more."""
    low, high = sorted(axis.get_view_interval())
    longest = max(len(f"{value:.1g}") for value in (low, high))
    has_room = low > 0 and 3 * math.log10(high / low) * (longest + 2) <= ROOM
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if has_room else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def limits(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits that contain all values, with a margin relative to their range."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room
