"""The picture `level_samples`, samples that share their upper levels.

Shapes: F numbers of shared levels, R rows, K columns, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nelbo.errors import positive_integer
from nelbo.models import Model
from nelbo.pictures.levels import (
    arrays_of,
    chosen_numbers,
    decode,
    describe_levels,
    describe_temperature,
    require_several,
    temperatures,
    upper_numbers,
)
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.grids import grid


class LevelSamples(Picture):
    """Means of p(x|z) at z ~ p(z), where the samples of a row share their upper levels: what the levels below change.

    There is a block of rows for each number of shared levels. The rows of all blocks are made of the same draws.
    Arrays: x (F, R, K, C, H, W), z1, z2, ... (F, R, K, *event) by level, and upper (F,), the numbers of shared levels.

    Args:
        rows: draws of the upper levels.
        columns: draws of the levels below for each of them.
        upper: how many upper levels a row shares: a number or a list of numbers; None for up to 5 numbers, evenly
            spread from 1 to the number of levels less 1.
        temperature: temperature of p(z), as of `Samples`.
    """

    def __init__(
        self, *, rows: int, columns: int, upper: int | Sequence[int] | None, temperature: float | Sequence[float]
    ) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.upper = upper_numbers(upper)
        self.temperature = temperatures(temperature)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        require_several(scene, "samples instead")
        model, levels = scene.model, len(scene.model.events)
        upper = chosen_numbers(self.upper, levels - 1)
        drawn = list(level_samples(model, self.rows, self.columns, upper, self.temperature))
        x = torch.stack([decode(model, *zs, batch_size=scene.batch_size) for zs in drawn])
        title = f"{scene.name}: means of p(x|z) at z ~ p(z); the samples of a row share their upper levels"
        title += describe_temperature(self.temperature)
        parts = []
        for number, (count, block) in enumerate(zip(upper, x, strict=True)):
            picture = grid(block, values=model.value_range)
            kept, redrawn = describe_levels(1, count), describe_levels(count + 1, levels)
            label = f"a row shares {kept}; {redrawn} {'is' if count + 1 == levels else 'are'} drawn for each sample"
            sheet = Sheet((picture.shape[1], picture.shape[2]), "" if number else title, columns=[label])
            parts.append(sheet(picture))
        zs = tuple(torch.stack(level) for level in zip(*drawn, strict=True))
        return Drawing(stacked(parts), {"x": x, **arrays_of(model, zs), "upper": torch.tensor(upper)})


def level_samples(
    model: Model, rows: int, columns: int, upper: Sequence[int], temperature: float | Sequence[float] = 1.0
) -> Iterator[tuple[Tensor, ...]]:
    """Yield for each number of shared levels samples z ~ p(z) by level, (R, K, *event), whose rows share the upper.

    Args:
        model: with several levels.
        rows: R, the draws of the upper levels.
        columns: K, the draws of the levels below for each of them.
        upper: numbers of upper levels that a row shares.
        temperature: factor on the spread of p(z), one number or one for each level.
    """
    drawn = model.sample(rows, temperature)
    for count in upper:
        above = tuple(z.repeat_interleave(columns, dim=0) for z in drawn[:count])
        zs = model.sample(rows * columns, temperature, above=above)
        yield tuple(z.unflatten(0, (rows, columns)) for z in zs)
