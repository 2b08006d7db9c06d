"""The picture `traversal`, the effect of single units.

Shapes: U units, K steps, D latent dimensions, C H W image; N variables with L classes each for one-hot codes. A unit of
a map of latents is a channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from PIL import Image
from torch import Tensor
from torch.nn import functional

from nelbo.errors import at_most, positive_integer
from nelbo.pictures.activity import Ranking, ranking, require_units, start, unit_numbers
from nelbo.pictures.latent import moved, settings
from nelbo.pictures.levels import arrays_of, below_at_modes, decode, level_number, require_level
from nelbo.pictures.picture import Drawing, Picture, Scene, image_index
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.codes import has_classes
from nelbo.views.grids import as_pictures, grid

STEPS = 24
"""Frames from the smallest to the largest value of a unit."""

HELD = 8
"""Frames for which a class is shown."""

LARGE, FEW = 112, 12
"""Height in pixels of a tile of the moving picture if there are at most `FEW` tiles; more have half of it."""


class Traversal(Picture):
    """One code with single units varied over the 2.5% to 97.5% quantiles of their prior, or over their classes.

    Units of a level below the top are varied over the quantiles of p(z|above). The channel of a map is shifted as a
    whole, by -2 to 2 standard deviations of p(z|above). Levels below that of the units are at the mode of p(z|above).

    The moving picture shows a tile for each unit, and all move back and forth at the same time. Arrays:
    x (U, K, C, H, W), z (U, K, *event), units (U,), and, if q(z|x) and p(z) factorise, kl (U,), in nats, averaged over
    images. Of several levels, z is called z1, z2, ..., top first, down to that of the units.

    Args:
        rows: number of units, those with the largest KL first, or with the largest variance of E_q[z] if there is no
            KL; None for all.
        columns: number of quantiles, or largest number of classes.
        image: position of the image whose code is varied; None for the median of the prior.
        units: the units to show, in this order, instead of `rows`. If they are given and `image` is None, no data are
            needed, and no KL is shown.
        level: the level of the units; 1 is the top.
    """

    moves = True

    def __init__(
        self, *, rows: int | None, columns: int, image: int | None, units: Sequence[int] | None, level: int
    ) -> None:
        self.rows = at_most("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.image = image_index(image)
        self.units = unit_numbers(units)
        self.level = level_number(level)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        model = scene.model
        require_level(model, self.level)
        whole, place = start(scene, self.image)
        origin = whole[: self.level]
        units, ranks = self._chosen(scene)
        kl = None if ranks is None or ranks.kl is None else ranks.kl[units]
        varied = settings(model, self.columns, origin)
        zs = moved_codes(origin, units, varied.values)
        x = decode(model, *zs, batch_size=scene.batch_size)
        picture = grid(x, values=model.value_range)
        title = f"{scene.name}: {varied.description}, from {place}{below_at_modes(model, self.level)}"
        if len(model.events) > 1:
            title = title.replace(": ", f": level {self.level} of {len(model.events)}, ", 1)
        names = _names("channel" if origin[-1].ndim == 3 else "unit", units, kl)
        sheet = Sheet((picture.shape[1], picture.shape[2]), title, rows=names, columns=varied.names)
        arrays = {"x": x, **arrays_of(model, zs), "units": units, **({} if kl is None else {"kl": kl})}
        return Drawing(sheet(picture), arrays, lambda: _frames(scene, origin, units, title))

    def _chosen(self, scene: Scene) -> tuple[Tensor, Ranking | None]:
        """Return the units (U,) and the ranking of all units; the latter is None if no data are needed."""
        if self.units is None:
            ranks = ranking(scene, self.level)
            return ranks.order[: self.rows], ranks
        units = require_units(scene.model, self.units, self.level)
        return units, None if self.image is None else ranking(scene, self.level)


def moved_codes(origin: Sequence[Tensor], units: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    """Return codes by level, (U, K, *event) each, equal to `origin` but for one unit of its last level.

    Args:
        origin: z by level, top first, (*event) each.
        units: the varied units, (U,).
        values: K values of each unit, (K, *event).
    """
    above = (z.expand(len(units), len(values), *z.shape) for z in origin[:-1])
    return (*above, moved(origin[-1], units, values))


def back_and_forth(steps: int) -> Iterator[int]:
    """Yield 0, 1, ..., steps - 1, steps - 2, ..., 1."""
    yield from range(steps)
    yield from range(steps - 2, 0, -1)


def _names(kind: str, units: Tensor, kl: Tensor | None) -> list[str]:
    """Return the label of each row."""
    names = [f"{kind} {unit}" for unit in units.tolist()]
    if kl is None:
        return names
    return [f"{name}\nKL {value:.2f} nats" for name, value in zip(names, kl.tolist(), strict=True)]


def _frames(scene: Scene, origin: Sequence[Tensor], units: Tensor, title: str) -> Iterator[Image.Image]:
    """Draw the frames of the moving picture, with a tile for each unit."""
    model = scene.model
    zs = moved_codes(origin, units, settings(model, STEPS, origin).values)
    x = decode(model, *zs, batch_size=scene.batch_size).cpu()
    x = as_pictures(x, model.value_range, is_vector=len(model.shape) == 1)
    columns = math.ceil(math.sqrt(2 * len(units)))
    size = LARGE if len(units) <= FEW else LARGE // 2
    missing = -len(units) % columns
    # The last row is filled with white tiles: (R, columns, K, C, H, W).
    tiles = functional.pad(x.flatten(1), (0, 0, 0, missing), value=1.0).unflatten(1, x.shape[1:])
    rows = tiles.unflatten(0, (-1, columns))
    names = _names("channel" if origin[-1].ndim == 3 else "unit", units, None) + [""] * missing
    _, height, width = grid(rows[0, :, 0].unsqueeze(0), size).shape
    sheets = [
        Sheet((height, width), "" if row else title, columns=names[row * columns : (row + 1) * columns])
        for row in range(len(rows))
    ]
    for step in back_and_forth(x.shape[1]):
        pictures = [grid(row[:, step].unsqueeze(0), size) for row in rows]
        frame = stacked([sheet(picture) for sheet, picture in zip(sheets, pictures, strict=True)])
        yield from [frame] * (HELD if len(origin) == 1 and has_classes(model) else 1)
