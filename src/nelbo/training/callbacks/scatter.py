"""Two-dimensional codes as a scatter plot."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor


def draw_codes(axes: Axes, codes: Tensor, labels: Tensor) -> None:
    """Codes (N, 2) coloured by label (N,), with the circles that hold 50% and 95% of N(0, I)."""
    points = axes.scatter(codes[:, 0], codes[:, 1], c=labels, cmap="tab10", s=4, alpha=0.6, linewidths=0)
    for mass in (0.5, 0.95):
        # |z|^2 is exponential with mean 2.
        radius = math.sqrt(-2 * math.log(1 - mass))
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1, linestyle="--"))
        axes.annotate(f"{mass:.0%} of N(0, I)", (0, radius), ha="center", va="bottom", fontsize=8)
    if (labels >= 0).all():
        axes.legend(*points.legend_elements(), title="label", loc="upper right", fontsize=8, markerscale=0.8)
    axes.set(xlabel="z₁", ylabel="z₂", aspect="equal")
