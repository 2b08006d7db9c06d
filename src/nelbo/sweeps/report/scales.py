"""Colours, markers and axes that all figures of a sweep share."""

from __future__ import annotations

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
GREY = "#8a8a8a"
INK = "#222222"
FEW = 10
"""The largest number of values that a legend lists; more numbers get a colour bar."""

COLOUR_RANGE = 0.92
"""The part of the colour map in use: its last yellow is hard to see on white."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn figure with its description.

    Args:
        name: the name of its file, without suffix.
        title: the heading above it.
        caption: what it shows, in sentences.
        figure: the drawing.
    """

    name: str
    title: str
    caption: str
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
        """Return the colour of a setting as RGBA."""
        if self.colour is None:
            return self.colours(0.3)
        value = group.values.get(self.colour.key)
        if self.norm is not None and is_number(value):
            return self.colours(COLOUR_RANGE * self.norm(value))
        if len(self.colour.values) <= FEW:
            return colormaps["tab10"](self.colour.values.index(value))
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
            for value in self.colour.values[: 2 * FEW]:
                colour = self.colour_of(Group({self.colour.key: value}, ()))
                handles.append(_handle("o", colour, figure_label(value)))
        elif self.colour:
            mappable = ScalarMappable(self.norm, _shortened(self.colours))
            bar = axes.figure.colorbar(mappable, ax=axes, pad=0.02, fraction=0.05)
            bar.set_label(self.colour.key)
            if isinstance(self.norm, LogNorm):
                format_log_axis(bar.ax.yaxis)
        if self.marker:
            if handles:
                handles.append(_heading(""))
            handles.append(_heading(self.marker.key))
            for value in self.marker.values[: len(MARKERS)]:
                marker = self.marker_of(Group({self.marker.key: value}, ()))
                handles.append(_handle(marker, GREY, figure_label(value)))
        if handles:
            position: dict[str, Any] = {"loc": "outside right upper"}
            axes.figure.legend(handles=handles, frameon=False, fontsize=9, **position)


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
    """Label the ticks of a logarithmic axis with plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def limits(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """Return axis limits that contain all values, with a margin relative to their range."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room
