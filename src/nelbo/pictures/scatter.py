"""Scatter plot of two-dimensional codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASS = 0.95
"""Probability of N(0, I) inside of the circle."""


def draw_codes(
    axes: Axes, codes: Tensor, labels: Tensor, classes: Sequence[str] = (), prior_samples: Tensor | None = None
) -> None:
    """Draw codes coloured by label, over the prior.

    Args:
        axes: where to draw.
        codes: (N, 2).
        labels: (N,); -1 for a code without a label.
        classes: names of the labels; empty if unknown.
        prior_samples: samples of the prior, (M, 2), drawn in grey; None for N(0, I), drawn as the circle that contains
            95% of it.
    """
    from matplotlib.patches import Circle

    if prior_samples is not None:
        axes.scatter(prior_samples[:, 0], prior_samples[:, 1], c="lightgrey", s=4, linewidths=0)
    points = axes.scatter(codes[:, 0], codes[:, 1], c=labels, cmap="tab10", s=4, alpha=0.6, linewidths=0)
    note = "grey: samples of the prior"
    if prior_samples is None:
        # |z|^2 has an exponential distribution with mean 2.
        radius = math.sqrt(-2 * math.log(1 - MASS))
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1.5, linestyle="--"))
        note = f"dashed: {MASS:.0%} of N(0, I)"
    axes.text(0.02, 0.02, note, transform=axes.transAxes, fontsize=9)
    if (labels >= 0).all():
        handles, numbers = points.legend_elements()
        values = sorted(set(labels.tolist()))
        names = [classes[value] for value in values] if classes and len(values) == len(handles) else numbers
        axes.legend(handles, names, title="label", loc="upper right", fontsize=8, markerscale=0.8)
    axes.set(xlabel="z₁", ylabel="z₂", aspect="equal")
