"""What each unit does.

Shapes: U units, K steps, D latent dimensions, C H W image; of one-hot codes N variables of L classes.
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
"""Of a sweep in one direction."""

HELD = 8
"""Frames for which a class stands still."""

LARGE, FEW = 112, 12
"""The size of a tile of a moving picture, in pixels, where there are no more than so many."""


class Traversal(Picture):
    """From one code, single units moved over their classes, or quantiles of their prior, 2.5% to 97.5%.

    In a moving picture all units go back and forth at once, a tile each. Arrays x (U, K, C, H, W), z (U, K, D) or
    (U, K, N, L), units (U,), and, where q(z|x) and p(z) factorise, kl (U,) in nats, averaged over images.

    Args:
        rows: units, those of the largest KL first, or whose means vary most where they have none; None for all.
        columns: quantiles, or classes at most.
        image: whose code; None starts from the median of the prior.
        units: these, in this order; None for those that `rows` says. Given, and without an image, no data are needed
            and no KL is known.
    """

    moves = True

    def __init__(self, *, rows: int | None, columns: int, image: int | None, units: Sequence[int] | None) -> None:
        self.rows = at_most("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.image = image_index(image)
        self.units = unit_numbers(units)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw."""
        origin, place = start(scene, self.image)
        units, ranked = self._chosen(scene)
        kl = None if ranked is None or ranked.kl is None else ranked.kl[units]
        found = settings(scene.model, self.columns)
        z = moved(origin, units, found.values)
        x = decode(scene, z)
        picture = grid(x)
        told = f"{scene.name}: {found.told}, from {place}"
        sheet = Sheet((picture.shape[1], picture.shape[2]), told, rows=_names(units, kl), columns=found.names)
        arrays = {"x": x, "z": z, "units": units, **({} if kl is None else {"kl": kl})}
        return Drawing(sheet(picture), arrays, lambda: _frames(scene, origin, units, told))

    def _chosen(self, scene: Scene) -> tuple[Tensor, Ranking | None]:
        """The units (U,), and what they were judged by, if data are needed at all."""
        if self.units is None:
            ranked = ranking(scene)
            return ranked.order[: self.rows], ranked
        units = require_units(scene.model, self.units)
        return units, None if self.image is None else ranking(scene)


def decode(scene: Scene, z: Tensor) -> Tensor:
    """p(x|z).mean at codes (..., D) or (..., N, L), (..., C, H, W)."""
    leading = z.shape[:-2] if has_classes(scene.model) else z.shape[:-1]
    flat = z.flatten(0, len(leading) - 1).split(scene.batch_size)
    x = torch.cat([scene.model.decode(part).mean for part in flat])
    return x.reshape(*leading, *x.shape[1:])


def back_and_forth(steps: int) -> Iterator[int]:
    """0, 1, ..., steps - 1, steps - 2, ..., 1."""
    yield from range(steps)
    yield from range(steps - 2, 0, -1)


def _names(units: Tensor, kl: Tensor | None) -> list[str]:
    names = [f"unit {unit}" for unit in units.tolist()]
    if kl is None:
        return names
    return [f"{name}\nKL {value:.2f} nats" for name, value in zip(names, kl.tolist(), strict=True)]


def _frames(scene: Scene, z: Tensor, units: Tensor, title: str) -> Iterator[Image.Image]:
    x = decode(scene, moved(z, units, settings(scene.model, STEPS).values)).cpu()
    columns = math.ceil(math.sqrt(2 * len(units)))
    size = LARGE if len(units) <= FEW else LARGE // 2
    missing = -len(units) % columns
    # White tiles fill the last row: (R, columns, K, C, H, W).
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
