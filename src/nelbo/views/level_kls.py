"""The KL of each level: bars of its units, and maps of where it is.

Shapes: U units, h w map, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from nelbo.views.figures import as_picture
from nelbo.views.units import ACTIVE, NUMBERED

BRIGHTEST = 0.98
"""Share of the places of a row of maps that are darker than its brightest colour."""

MANY_LEVELS = 6
"""Number of levels above which their panels are lower."""

NO_BARS = 0.6
"""Height in inches of the panel of a level whose units have no KL."""


@dataclass(frozen=True)
class LevelKL:
    """The KL of a level in nats, averaged over images.

    Args:
        event: the shape of z.
        total: the KL of the level.
        units: the KL of each unit, (U,); None if q or p does not factorise.
        places: the KL of each place of a map, (h, w); None if z is no map, or q or p does not factorise.
    """

    event: tuple[int, ...]
    total: float
    units: Tensor | None
    places: Tensor | None


def draw_level_kls(levels: Sequence[LevelKL], names: Sequence[str], title: str) -> Tensor:
    """Draw the KL of each unit as bars, the largest first, a panel for each level, and beside it the map of the KL.

    Args:
        levels: the KL of each level, top first.
        names: title of the panel of each.
        title: title of the whole.

    Returns:
        The picture, (3, height, width) in [0, 1].
    """
    with_maps = any(level.places is not None for level in levels)
    height = 2.2 if len(levels) <= MANY_LEVELS else 1.6
    heights = [NO_BARS if level.units is None else height for level in levels]
    figure = Figure(figsize=(9, 0.6 + sum(heights)), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    ratios = {"height_ratios": heights, "width_ratios": [4, 1] if with_maps else [1]}
    grid = figure.subplots(len(levels), 1 + with_maps, squeeze=False, gridspec_kw=ratios)
    most = max((float(level.units.max()) for level in levels if level.units is not None), default=1.0)
    for level, name, (bars, *beside) in zip(levels, names, grid, strict=True):
        bars.set_title(name, loc="left", fontsize=10)
        _draw_bars(bars, level.units, most)
        for panel in beside:
            _draw_places(figure, panel, level.places)
    grid[-1, 0].set_xlabel("unit, or channel of a map" if with_maps else "unit")
    return as_picture(figure)


def _draw_bars(panel: Axes, units: Tensor | None, most: float) -> None:
    if units is None:
        panel.set_axis_off()
        panel.text(0, 0.5, "q(z|x) or p(z) does not factorise over units", transform=panel.transAxes, fontsize=9)
        return
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=2)
    order = units.argsort(descending=True)
    rank = np.arange(1, len(order) + 1)
    panel.bar(rank, units[order].clamp(min=0).numpy(), width=0.5 if len(order) < 16 else 0.8, color=ACTIVE)
    panel.set(xlim=(0.3, max(len(order), 8) + 0.7), ylim=(0, 1.05 * most or 1), ylabel="nats")
    if len(order) <= NUMBERED:
        panel.set_xticks(rank.tolist(), [str(unit) for unit in order.tolist()], fontsize=7 if len(order) > 32 else 9)


def _draw_places(figure: Figure, panel: Axes, places: Tensor | None) -> None:
    panel.set_axis_off()
    if places is not None:
        image = panel.imshow(places.numpy(), cmap="magma", vmin=0, interpolation="nearest")
        panel.set_title("nats at each place", fontsize=9)
        figure.colorbar(image, ax=panel, shrink=0.85).ax.tick_params(labelsize=8)


def brightest(places: Tensor) -> float:
    """Return the KL of the brightest colour of some maps, in nats: their 98% quantile, because few places have most."""
    return float(places.float().quantile(BRIGHTEST))


def map_rows(images: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Return images and, below each, maps of its KL drawn over it, a row for each map, (1 + M, B, 3, H, W) in [0, 1].

    Colours of a row are bright from the `brightest` of all its maps.

    Args:
        images: (B, C, H, W) in [0, 1].
        maps: M maps of each image, (B, h, w) each, in nats.
    """
    overlaid = [over_image(images, places, brightest(places)) for places in maps]
    return torch.stack([images.cpu().float().expand(-1, 3, -1, -1), *overlaid])


def over_image(images: Tensor, places: Tensor, most: float) -> Tensor:
    """Draw maps of the KL over grey images, from transparent and dark to opaque and bright.

    Args:
        images: (B, C, H, W) in [0, 1].
        places: maps, (B, h, w), in nats.
        most: the KL from which on places have the brightest colour, in nats.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    share = (places / most if most > 0 else torch.zeros_like(places)).clamp(0, 1).cpu()
    share = functional.interpolate(share.unsqueeze(1), images.shape[2:], mode="nearest")
    colours = torch.from_numpy(colormaps["magma"](share.squeeze(1).numpy())[..., :3]).permute(0, 3, 1, 2).float()
    grey = images.cpu().float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    opacity = 0.35 + 0.45 * share
    return (1 - opacity) * grey + opacity * colours
