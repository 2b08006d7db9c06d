"""The KL of each latent unit over training, as a picture.

Shapes: V validations, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from torch import Tensor

from nelbo.views.figures import as_picture

NUMBERED = 24
"""Largest number of rows that are labelled with the numbers of their units."""

SIZE, DPI = (3.5, 3.0), 100
"""Width and height in inches, and pixels per inch: TensorBoard shows a picture with a width of 350 pixels."""


def draw_unit_history(kl: Tensor, epochs: Sequence[float]) -> Tensor:
    """Draw the KL of each unit at each validation: a row for each unit, the largest at the last validation on top.

    Args:
        kl: KL(q(z_i|x) || p(z_i)) in nats, averaged over images, (V, D).
        epochs: the epochs that were completed at each validation, (V,).

    Returns:
        The picture, (3, height, width) in [0, 1].

    Example:
        >>> import torch
        >>> draw_unit_history(torch.tensor([[0.1, 0.2], [0.1, 3.0]]), [1, 2]).shape
        torch.Size([3, 300, 350])
    """
    order = kl[-1].argsort(descending=True, stable=True)
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    most = max(float(kl.max()), 1e-6)
    image = axes.imshow(
        kl[:, order].T.clamp(min=0).numpy(), cmap="viridis", vmin=0, vmax=most, aspect="auto", interpolation="nearest"
    )
    colours = figure.colorbar(image, ax=axes, pad=0.02)
    colours.set_label("nats per image", fontsize=9)
    colours.ax.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda place, _: f"{epochs[round(place)]:g}" if 0 <= round(place) < len(epochs) else "")
    )
    if len(order) <= NUMBERED:
        axes.set_yticks(
            range(len(order)), [str(unit) for unit in order.tolist()], fontsize=8 if len(order) <= 12 else 6
        )
        axes.set_ylabel("unit, sorted by its last KL", fontsize=9)
    else:
        axes.set_ylabel("units, sorted by their last KL", fontsize=9)
    axes.tick_params(axis="x", length=2, labelsize=8)
    axes.tick_params(axis="y", length=2)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_title(f"KL of each of {len(order)} units, in all {float(kl[-1].sum()):.1f} nats", fontsize=9)
    return as_picture(figure)
