"""Colours, markers and numbers that all figures of a sweep share."""

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

from nelbo.sweeps.cells.values import Value, is_number, show
from nelbo.sweeps.report.cell_table import Axis, Group, SweepTable

BETA, LATENTS = "objective.beta", "model.latent_dim"
DPI = 150
MARKERS = "osD^vPX<>ph*"
GREY = "#8a8a8a"
INK = "#222222"
FEW = 10
"""Beyond this many values a colour bar serves better than a legend."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what it shows.

    Args:
        name: of its file.
        title: its heading.
        caption: what it shows, in sentences.
        figure: as drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure


@dataclass
class Scale:
    """A colour for each value of an axis, a marker for each of another.

    Args:
        colour: the axis that colours show; None for one colour.
        marker: the axis that markers show; None for one.
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
        """RGBA."""
        if self.colour is None:
            return self.colours(0.3)
        value = group.values.get(self.colour.key)
        if self.norm is not None and is_number(value):
            return self.colours(0.92 * self.norm(value))  # the last yellow is hard to see on white
        if len(self.colour.values) <= FEW:
            return colormaps["tab10"](self.colour.values.index(value))
        return self.colours(0.92 * self.colour.values.index(value) / (len(self.colour.values) - 1))

    def marker_of(self, group: Group) -> str:
        """A marker."""
        if self.marker is None:
            return MARKERS[0]
        return MARKERS[self.marker.values.index(group.values.get(self.marker.key)) % len(MARKERS)]

    def explain(self, axes: Axes) -> None:
        """Legends beside the axes, and a colour bar where there are many numbers."""
        handles: list[Line2D] = []
        if self.colour and (self.norm is None or len(self.colour.values) <= FEW):
            handles.append(_heading(self.colour.key))
            for value in self.colour.values[: 2 * FEW]:
                colour = self.colour_of(Group({self.colour.key: value}, ()))
                handles.append(_handle("o", colour, show(value)))
        elif self.colour:
            mappable = ScalarMappable(self.norm, _shortened(self.colours))
            bar = axes.figure.colorbar(mappable, ax=axes, pad=0.02, fraction=0.05)
            bar.set_label(self.colour.key)
            if isinstance(self.norm, LogNorm):
                logarithmic(bar.ax.yaxis)
        if self.marker:
            if handles:
                handles.append(_heading(""))
            handles.append(_heading(self.marker.key))
            for value in self.marker.values[: len(MARKERS)]:
                handles.append(_handle(self.marker_of(Group({self.marker.key: value}, ())), GREY, show(value)))
        if handles:
            place: dict[str, Any] = {"loc": "outside right upper"}
            axes.figure.legend(handles=handles, frameon=False, fontsize=9, **place)


def _heading(text: str) -> Line2D:
    return Line2D([], [], linestyle="none", label=text)


def _handle(marker: str, colour: Any, text: str) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, color=colour, markeredgecolor=INK, label=text)


def _shortened(colours: Colormap) -> Colormap:
    return ListedColormap([colours(0.92 * step / 255) for step in range(256)])


def is_logarithmic(axis: Axis) -> bool:
    """Whether an axis is better shown in its logarithm: positive, and over more than a factor of 4."""
    if not axis.numeric:
        return False
    low, high = float(axis.values[0] or 0), float(axis.values[-1] or 0)
    return low > 0 and high / low > 4


def main_axes(table: SweepTable) -> list[Axis]:
    """The swept axes, those first that a person looks at first: latents, beta, then numbers, then the rest."""
    order = {LATENTS: 0, BETA: 1}
    return sorted(table.swept, key=lambda axis: (order.get(axis.key, 2), not axis.numeric))


def scale_of(table: SweepTable) -> Scale:
    """Beta in colours, latents in markers, where they were swept."""
    axes = main_axes(table)
    colour = next((axis for axis in axes if axis.key == BETA), axes[0] if axes else None)
    rest = [axis for axis in axes if axis is not colour and len(axis.values) <= len(MARKERS)]
    return Scale(colour, rest[0] if rest else None)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """No box around."""
    axes.spines[["top", "right"]].set_visible(False)


def logarithmic(axis: XAxis | YAxis) -> None:
    """Ticks of a logarithmic axis as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def limits(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """All values, and a margin."""
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room


def digits(value: float | None) -> str:
    """A number for people: four significant digits, no more than two decimals."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}".replace("-", "−")
    decimals = max(0, min(2, 3 - int(math.floor(math.log10(max(abs(value), 1e-9))))))
    return f"{value:.{decimals}f}".replace("-", "−")


def spread(group: Group, metric: str) -> str:
    """Mean ± sd; the mean alone of one seed."""
    sd = group.sd(metric)
    return digits(group.mean(metric)) + (f" ± {digits(sd)}" if sd is not None else "")


def place(values: dict[str, Value] | Any) -> str:
    """Swept values in one line."""
    return ", ".join(f"{key}={show(value)}" for key, value in values.items()) or "all cells"
