"""What each latent unit carries, as bars.

Shapes: D latent dimensions, P pixels.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from nelbo.views.figures import as_picture

ACTIVE, INACTIVE, DATA, LINE = "#3b6ea8", "#e08a3c", "#b9bdc4", "#222222"
NAMED = 64
"""So many units have room for their numbers."""

FLOOR = 1e-6
"""Of logarithmic axes: what lies below is as good as nothing."""


def draw_units(
    kl: Tensor | None,
    variances: Tensor,
    threshold: float,
    eigenvalues: Tensor | None = None,
    level: float = 0.0,
    worth: int = 0,
    is_whole: bool = True,
) -> Tensor:
    """Bars of each unit's KL and of the variance of its mean, the largest first; inactive units in another colour.

    Args:
        kl: (D,), in nats, if there is one for each unit.
        variances: Var_x(E_q[z]), (D,).
        threshold: units are active if their variance exceeds it.
        eigenvalues: of the covariance of the training images, (P,), descending, if the linear theory holds.
        level: its water level, beta sigma^2.
        worth: how many of the leading eigenvalues, all above the level, are worth a unit of a linear model.
        is_whole: whether these are all eigenvalues; if not, more may be worth one.

    Returns:
        (3, height, width) in [0, 1].
    """
    order = (variances if kl is None else kl).argsort(descending=True)
    active = variances[order] > threshold
    count = 1 + (kl is not None) + (eigenvalues is not None)
    figure = Figure(figsize=(9, 0.3 + 2.6 * count), dpi=100, layout="constrained")
    panels = list(figure.subplots(count, 1, squeeze=False).flat)
    if kl is not None:
        bars(panels[0], order, kl.clamp(min=0), active)
        panels[0].set_title("KL(q(z|x) || p(z)) of each unit, nats", loc="left", fontsize=10)
        if eigenvalues is not None:
            rates = 0.5 * (eigenvalues[: min(worth, len(order))] / level).log()
            middles = np.arange(1, len(rates) + 1)
            told = f"best linear VAE: ½ log(λ / βσ²), {len(rates)} units"
            panels[0].hlines(rates.numpy(), middles - 0.45, middles + 0.45, colors=LINE, linewidth=1.4, label=told)
    panel = panels[int(kl is not None)]
    bars(panel, order, variances.clamp(min=FLOOR), active)
    panel.set_yscale("log")
    panel.set_title("variance of E[z|x] over images", loc="left", fontsize=10)
    panel.axhline(threshold, color=LINE, linewidth=1.2, linestyle=":", label=f"active above {threshold:g}")
    panel.set_xlabel("unit" if len(order) <= NAMED else "units, by rank")
    if eigenvalues is not None:
        drawn = eigenvalues[: max(2 * len(order), worth * 5 // 4, 8)]
        told = f"{worth}{' or more' if worth == len(eigenvalues) and not is_whole else ''} worth a unit"
        draw_spectrum(panels[-1], drawn, level, worth, len(order), told)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(length=2)
        panel.legend(
            loc="lower right", bbox_to_anchor=(1.01, 0.98), fontsize=8.5, frameon=False, ncols=4, columnspacing=1.4
        )
    return as_picture(figure)


def bars(panel: Axes, order: Tensor, values: Tensor, active: Tensor) -> None:
    """Values (D,) of units in an order (D,), in two colours: `active` (D,) says which of the ordered are."""
    rank = np.arange(1, len(order) + 1)
    width = 0.5 if len(order) < 16 else 0.8 if len(order) <= 2 * NAMED else 1.0
    for chosen, color, name in ((active.numpy(), ACTIVE, "active"), (~active.numpy(), INACTIVE, "inactive")):
        if chosen.any():
            label = f"{name}: {int(chosen.sum())}"
            panel.bar(rank[chosen], values[order].numpy()[chosen], width=width, color=color, label=label)
    panel.set_xlim(0.3, len(order) + 0.7)
    if len(order) <= NAMED:
        panel.set_xticks(rank.tolist(), [str(unit) for unit in order.tolist()], fontsize=7 if len(order) > 32 else 9)


def draw_spectrum(panel: Axes, eigenvalues: Tensor, level: float, worth: int, units: int, told: str) -> None:
    """Eigenvalues (descending), those that a linear model of so many units has a use for in another colour."""
    rank, values = np.arange(1, len(eigenvalues) + 1), eigenvalues.clamp(min=FLOOR).numpy()
    floor = max(min(float(values.min()), level) / 2, FLOOR)
    used = rank <= min(units, worth)
    for chosen, color in ((used, ACTIVE), (~used, DATA)):
        panel.bar(rank[chosen], values[chosen], width=0.8 if len(rank) <= NAMED else 1.0, color=color)
    panel.axhline(level, color=LINE, linewidth=1.3, linestyle="--", label=f"water level βσ² = {level:.3g}, {told}")
    panel.axvline(units + 0.5, color=LINE, linewidth=0.9, label=f"the model's {units} units")
    panel.set(yscale="log", xlim=(0.5, len(values) + 0.5), ylim=(floor, None), xlabel="principal component")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_title("eigenvalues λ of the training images", loc="left", fontsize=10)
