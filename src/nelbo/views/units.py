"""Bar charts of latent units: KL, also by level, variance of the means, and the spectrum of the training images.

Shapes: D latent dimensions, K principal components.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from nelbo.theory.linear import LinearTheory
from nelbo.views.figures import as_picture

ACTIVE, INACTIVE, DATA, LINE = "#3b6ea8", "#e08a3c", "#b9bdc4", "#222222"
NUMBERED = 64
"""Largest number of bars that are labelled with the numbers of their units."""

FLOOR = 1e-6
"""Smallest value shown on a logarithmic axis; smaller values are drawn at it."""


def draw_units(kl: Tensor | None, variances: Tensor, threshold: float, theory: LinearTheory | None = None) -> Tensor:
    """Draw each unit's KL and the variance of its mean as bars, the largest first, inactive units in another colour.

    Args:
        kl: KL of each unit, (D,), in nats; None if it is not defined for single units.
        variances: Var_x(E_q[z]), (D,).
        threshold: units with a larger variance are active.
        theory: the best linear VAE on the same images. If given, its rates are marked, and a third panel shows the
            eigenvalues and the water level.

    Returns:
        The picture, (3, height, width) in [0, 1].
    """
    order = (variances if kl is None else kl).argsort(descending=True)
    active = variances[order] > threshold
    count = 1 + (kl is not None) + (theory is not None)
    figure = Figure(figsize=(9, 0.3 + 2.6 * count), dpi=100, layout="constrained")
    panels = list(figure.subplots(count, 1, squeeze=False).flat)
    if kl is not None:
        _bars(panels[0], order, kl.clamp(min=0), active)
        panels[0].set_title("KL(q(z|x) || p(z)) of each unit, nats", loc="left", fontsize=10)
        if theory is not None:
            rates = theory.rates(len(order))
            middles = np.arange(1, len(rates) + 1)
            label = f"best linear VAE: ½ log(λ / βσ²), {len(rates)} units"
            panels[0].hlines(rates.numpy(), middles - 0.45, middles + 0.45, colors=LINE, linewidth=1.4, label=label)
    panel = panels[int(kl is not None)]
    _bars(panel, order, variances.clamp(min=FLOOR), active)
    panel.set_yscale("log")
    panel.set_title("variance of E[z|x] over images", loc="left", fontsize=10)
    panel.axhline(threshold, color=LINE, linewidth=1.2, linestyle=":", label=f"active above {threshold:g}")
    panel.set_xlabel("unit" if len(order) <= NUMBERED else "units, by rank")
    if theory is not None:
        _draw_spectrum(panels[-1], theory, len(order))
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(length=2)
        panel.legend(
            loc="lower right", bbox_to_anchor=(1.01, 0.98), fontsize=8.5, frameon=False, ncols=4, columnspacing=1.4
        )
    return as_picture(figure)


def draw_levels(kls: Sequence[float], units: Sequence[Tensor | None], threshold: float) -> Tensor:
    """Draw the KL of each level, and of its units, the largest first, with inactive units in another colour.

    Args:
        kls: KL of each level, top first, in nats.
        units: KL of each unit, (U,), by level; None for a level for which it is not defined.
        threshold: units with a smaller KL are inactive, in nats.

    Returns:
        The picture, (3, height, width) in [0, 1].
    """
    figure = Figure(figsize=(9, 5.5), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1)
    above.bar(range(1, len(kls) + 1), [max(kl, 0) for kl in kls], color=ACTIVE, width=0.5)
    above.set_title("KL of each level, nats", loc="left", fontsize=10)
    above.set_xlabel("level, 1 is the top")
    above.xaxis.set_major_locator(MaxNLocator(integer=True))
    middles, first = {}, 0
    for level, kl in enumerate(units, 1):
        values = np.sort(np.array([np.nan]) if kl is None else kl.numpy())[::-1]
        rank = first + np.arange(len(values))
        for chosen, color in ((values >= threshold, ACTIVE), (values < threshold, INACTIVE)):
            below.bar(rank[chosen], np.maximum(values[chosen], FLOOR), width=1.0, color=color)
        middles[first + (len(values) - 1) / 2] = str(level)
        first += len(values) + 1
    below.axhline(threshold, color=LINE, linewidth=1.2, linestyle=":", label=f"active above {threshold:g}")
    below.set(yscale="log", xlabel="level; its units by rank")
    below.set_title("KL of each unit, nats", loc="left", fontsize=10)
    below.set_xticks(list(middles), list(middles.values()), fontsize=9 if len(middles) <= 32 else 6)
    below.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), fontsize=8.5, frameon=False)
    for panel in (above, below):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(length=2)
    return as_picture(figure)


def _bars(panel: Axes, order: Tensor, values: Tensor, active: Tensor) -> None:
    """Draw values (D,) of units in the given order (D,) in two colours; `active` (D,) is in that order too."""
    rank = np.arange(1, len(order) + 1)
    width = 0.5 if len(order) < 16 else 0.8 if len(order) <= 2 * NUMBERED else 1.0
    for chosen, color, name in ((active.numpy(), ACTIVE, "active"), (~active.numpy(), INACTIVE, "inactive")):
        if chosen.any():
            label = f"{name}: {int(chosen.sum())}"
            panel.bar(rank[chosen], values[order].numpy()[chosen], width=width, color=color, label=label)
    panel.set_xlim(0.3, len(order) + 0.7)
    if len(order) <= NUMBERED:
        panel.set_xticks(rank.tolist(), [str(unit) for unit in order.tolist()], fontsize=7 if len(order) > 32 else 9)


def _draw_spectrum(panel: Axes, theory: LinearTheory, units: int) -> None:
    """Draw the eigenvalues, descending, and in another colour those that a linear model with `units` units uses."""
    useful, level = theory.useful_directions, theory.level
    eigenvalues = theory.eigenvalues[: max(2 * units, useful * 5 // 4, 8)]
    or_more = " or more" if useful == len(theory.eigenvalues) and not theory.spectrum.is_whole else ""
    rank, values = np.arange(1, len(eigenvalues) + 1), eigenvalues.clamp(min=FLOOR).numpy()
    floor = max(min(float(values.min()), level) / 2, FLOOR)
    used = rank <= theory.units(units)
    for chosen, color in ((used, ACTIVE), (~used, DATA)):
        panel.bar(rank[chosen], values[chosen], width=0.8 if len(rank) <= NUMBERED else 1.0, color=color)
    label = f"water level βσ² = {level:.3g}, {useful}{or_more} worth a unit"
    panel.axhline(level, color=LINE, linewidth=1.3, linestyle="--", label=label)
    panel.axvline(units + 0.5, color=LINE, linewidth=0.9, label=f"the model's {units} units")
    panel.set(yscale="log", xlim=(0.5, len(values) + 0.5), ylim=(floor, None), xlabel="principal component")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_title("eigenvalues λ of the training images", loc="left", fontsize=10)
