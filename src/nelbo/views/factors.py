"""Heat map of the mutual information of latent units and known factors.

Shapes: D latent dimensions, F factors.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

from nelbo.views.figures import as_picture

MOST_UNITS = 32
"""Largest number of units that are drawn."""

BRIGHT = 0.6
"""Share above which the number in a field is black instead of white."""


def draw_information(shares: Tensor, units: Sequence[int], factors: Sequence[int]) -> Tensor:
    """Draw I(z_i; v_k) / H(v_k) of each unit and factor, with a number in each field.

    Args:
        shares: (D, F) in [0, 1]; at most 32 units are drawn, those with the largest shares.
        units: the numbers of the units, (D,).
        factors: the numbers of the factors, (F,).

    Returns:
        The picture, (3, height, width) in [0, 1].
    """
    drawn = shares.amax(dim=1).argsort(descending=True, stable=True)[:MOST_UNITS].sort().values.tolist()
    figure = Figure(figsize=(3 + 0.7 * len(factors), 1.6 + 0.34 * len(drawn)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares[drawn].numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row, unit in enumerate(drawn):
        for column, share in enumerate(shares[unit].tolist()):
            color = "black" if share > BRIGHT else "white"
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(factors)), [str(factor) for factor in factors])
    axes.set_yticks(range(len(drawn)), [str(units[unit]) for unit in drawn])
    axes.tick_params(length=0)
    label = f"{len(drawn)} of {len(units)} active units" if len(drawn) < len(units) else "active unit"
    axes.set(xlabel="factor", ylabel=label)
    axes.set_title("mutual information of unit and factor,\nas a share of the factor's entropy", fontsize=10)
    return as_picture(figure)
