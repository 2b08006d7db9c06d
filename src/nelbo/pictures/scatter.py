"""Scatter plots of codes on a plane, coloured by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASS = 0.95
"""Probability of N(0, I) inside of the circle."""

NAMED = 18
"""Largest number of classes with distinct colours and a legend."""

GREY, BLACK = "lightgrey", (0.1, 0.1, 0.1, 1.0)


def draw_codes(
    axes: Axes,
    codes: Tensor,
    labels: Tensor,
    classes: Sequence[str] = (),
    prior_samples: Tensor | None = None,
    *,
    names: tuple[str, str] = ("z₁", "z₂"),
) -> None:
    """Draw codes coloured by label, over the prior, with a legend on the right.

    Args:
        axes: where to draw.
        codes: (N, 2).
        labels: (N,); -1 for a code without a label.
        classes: names of the labels; empty if unknown.
        prior_samples: samples of the prior, (M, 2), drawn in grey; None for N(0, I), drawn as the circle that contains
            95% of it.
        names: labels of both axes.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.patches import Circle

    if prior_samples is not None:
        axes.scatter(prior_samples[:, 0], prior_samples[:, 1], c=GREY, s=4, linewidths=0, label="prior")
    scatter(axes, codes, labels, classes)
    if prior_samples is None:
        # |z|^2 has an exponential distribution with mean 2.
        radius = math.sqrt(-2 * math.log(1 - MASS))
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1.2, linestyle="--"))
        axes.plot([], [], color="black", linewidth=1.2, linestyle="--", label=f"{MASS:.0%} of\nN(0, I)")
    _, shown = axes.get_legend_handles_labels()
    if shown:
        legend = axes.legend(
            loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handletextpad=0.3, handlelength=1.2, fontsize=8
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([25])
    axes.set(xlabel=names[0], ylabel=names[1], aspect="equal")


def scatter(axes: Axes, points: Tensor, labels: Tensor, classes: Sequence[str]) -> None:
    """Draw points (N, 2) in the colours of their labels, in the order of the images, so that no class is on top."""
    values, index = labels.unique(return_inverse=True)
    size = min(30, max(6, 8000 / len(points)))
    if bool((values < 0).any()):
        axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7, label="images")
        return
    colours = _colours(len(values))
    shades = [colours[number] for number in index.tolist()]
    axes.scatter(points[:, 0], points[:, 1], c=shades, s=size, linewidths=0, alpha=0.7)
    if len(values) <= NAMED:
        for colour, value in zip(colours, values.tolist(), strict=True):
            axes.scatter([], [], color=colour, s=size, label=classes[value] if classes else str(value))


def _colours(count: int) -> list[tuple[float, ...]]:
    """Return a colour for each of `count` classes; none is grey, the colour of the prior."""
    from matplotlib import colormaps

    if count > NAMED:
        return [tuple(colormaps["hsv"](number / count)) for number in range(count)]
    few = count <= 10
    palette = colormaps["tab10" if few else "tab20"]
    colours = [tuple(palette(number)) for number in range(palette.N)]
    not_grey = [max(colour[:3]) - min(colour[:3]) > 0.1 for colour in colours]
    if few:
        return [colour if keep else BLACK for colour, keep in zip(colours, not_grey, strict=True)][:count]
    return [colour for colour, keep in zip(colours, not_grey, strict=True) if keep][:count]
