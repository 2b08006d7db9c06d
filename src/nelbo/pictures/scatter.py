"""Two-dimensional codes as a scatter plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASS = 0.95


def draw_codes(
    axes: Axes, codes: Tensor, labels: Tensor, classes: Sequence[str] = (), prior_samples: Tensor | None = None
) -> None:
    """Codes (N, 2) coloured by label (N,), with the names of the classes, over the prior.

    That is shown by its samples (M, 2) in grey; without them it is N(0, I), and a circle holds 95% of it.
    """
    from matplotlib.patches import Circle

    if prior_samples is not None:
        axes.scatter(prior_samples[:, 0], prior_samples[:, 1], c="lightgrey", s=4, linewidths=0)
    points = axes.scatter(codes[:, 0], codes[:, 1], c=labels, cmap="tab10", s=4, alpha=0.6, linewidths=0)
    told = "grey: samples of the prior"
    if prior_samples is None:
        # |z|^2 is exponential with mean 2.
        radius = math.sqrt(-2 * math.log(1 - MASS))
        axes.add_patch(Circle((0, 0), radius, fill=False, color="black", linewidth=1.5, linestyle="--"))
        told = f"dashed: {MASS:.0%} of N(0, I)"
    axes.text(0.02, 0.02, told, transform=axes.transAxes, fontsize=9)
    if (labels >= 0).all():
        handles, numbers = points.legend_elements()
        values = sorted(set(labels.tolist()))
        names = [classes[value] for value in values] if classes and len(values) == len(handles) else numbers
        axes.legend(handles, names, title="label", loc="upper right", fontsize=8, markerscale=0.8)
    axes.set(xlabel="z₁", ylabel="z₂", aspect="equal")
