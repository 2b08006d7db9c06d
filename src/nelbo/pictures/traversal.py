"""The picture `traversal`, the effect of single units.

Shapes: U units, K steps, D latent dimensions, C H W image; N variables with L classes each for one-hot codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nelbo.errors import at_most, positive_integer
from nelbo.pictures.activity import Ranking, ranking, require_units, start, unit_numbers
from nelbo.pictures.latent import moved, settings
from nelbo.pictures.picture import Drawing, Picture, Scene, image_index
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.codes import has_classes
from nelbo.views.grids import grid

STEPS = 24
"""Frames from the smallest to the largest value of a unit."""

HELD = 8
"""Frames for which a class is shown."""

LARGE, FEW = 112, 12
"""Height in pixels of a tile of the moving picture if there are at most `FEW` tiles; more have half of it."""


class Traversal(Picture):
    """One code with single units varied over the 2.5% to 97.5% quantiles of their prior, or over their classes.

    The moving picture shows a tile for each unit, and all move back and forth at the same time. Arrays:
    x (U, K, C, H, W), z (U, K, D) or (U, K, N, L), units (U,), and, if q(z|x) and p(z) factorise, kl (U,), in nats,
    averaged over images.

    Args:
        rows: number of units, those with the largest KL first, or with the largest variance of E_q[z] if there is no
            KL; None for all.
        columns: number of quantiles, or largest number of classes.
        image: position of the image whose code is varied; None for the median of the prior.
        units: the units to show, in this order, instead of `rows`. If they are given and `image` is None, no data are
            needed, and no KL is shown.
    """

    moves = True

    def __init__(self, *, rows: int | None, columns: int, image: int | None, units: Sequence[int] | None) -> None:
        self.rows = at_most("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.image = image_index(image)
        self.units = unit_numbers(units)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        origin, place = start(scene, self.image)
        units, ranks = self._chosen(scene)
        kl = None if ranks is None or ranks.kl is None else ranks.kl[units]
        varied = settings(scene.model, self.columns)
        z = moved(origin, units, varied.values)
        x = decode(scene, z)
        picture = grid(x)
        title = f"{scene.name}: {varied.description}, from {place}"
        sheet = Sheet((picture.shape[1], picture.shape[2]), title, rows=_names(units, kl), columns=varied.names)
        arrays = {"x": x, "z": z, "units": units, **({} if kl is None else {"kl": kl})}
        return Drawing(sheet(picture), arrays, lambda: _frames(scene, origin, units, title))

    def _chosen(self, scene: Scene) -> tuple[Tensor, Ranking | None]:
        """Return the units (U,) and the ranking of all units; the latter is None if no data are needed."""
        if self.units is None:
            ranks = ranking(scene)
            return ranks.order[: self.rows], ranks
        units = require_units(scene.model, self.units)
        return units, None if self.image is None else ranking(scene)


def decode(scene: Scene, z: Tensor) -> Tensor:
    """Return means of p(x|z) at codes (..., D) or (..., N, L), (..., C, H, W)."""
    leading = z.shape[:-2] if has_classes(scene.model) else z.shape[:-1]
    flat = z.flatten(0, len(leading) - 1).split(scene.batch_size)
    x = torch.cat([scene.model.decode(part).mean for part in flat])
    return x.reshape(*leading, *x.shape[1:])


def back_and_forth(steps: int) -> Iterator[int]:
    """Yield 0, 1, ..., steps - 1, steps - 2, ..., 1."""
    yield from range(steps)
    yield from range(steps - 2, 0, -1)


def _names(units: Tensor, kl: Tensor | None) -> list[str]:
    """Return the label of each row."""
    names = [f"unit {unit}" for unit in units.tolist()]
    if kl is None:
        return names
    return [f"{name}\nKL {value:.2f} nats" for name, value in zip(names, kl.tolist(), strict=True)]


def _frames(scene: Scene, z: Tensor, units: Tensor, title: str) -> Iterator[Image.Image]:
    """Draw the frames of the moving picture, with a tile for each unit."""
    x = decode(scene, moved(z, units, settings(scene.model, STEPS).values)).cpu()
    columns = math.ceil(math.sqrt(2 * len(units)))
    size = LARGE if len(units) <= FEW else LARGE // 2
    missing = -len(units) % columns
    # The last row is filled with white tiles: (R, columns, K, C, H, W).
    tiles = functional.pad(x.flatten(1), (0, 0, 0, missing), value=1.0).unflatten(1, x.shape[1:])
    rows = tiles.unflatten(0, (-1, columns))
    names = [f"unit {unit}" for unit in units.tolist()] + [""] * missing
    _, height, width = grid(rows[0, :, 0].unsqueeze(0), size).shape
    sheets = [
        Sheet((height, width), "" if row else title, columns=names[row * columns : (row + 1) * columns])
        for row in range(len(rows))
    ]
    for step in back_and_forth(x.shape[1]):
        pictures = [grid(row[:, step].unsqueeze(0), size) for row in rows]
        frame = stacked([sheet(picture) for sheet, picture in zip(sheets, pictures, strict=True)])
        yield from [frame] * (HELD if has_classes(scene.model) else 1)
