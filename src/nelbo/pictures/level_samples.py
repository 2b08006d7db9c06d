"""The picture `level_samples`, samples that share their upper levels.

Shapes: F numbers of fixed levels, R rows, K columns, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nelbo.errors import ConfigError, integer, positive_integer
from nelbo.models import Model
from nelbo.pictures.levels import (
    arrays_of,
    decode,
    describe_levels,
    describe_temperature,
    require_several,
    temperatures,
)
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.grids import grid


class LevelSamples(Picture):
    """Means of p(x|z) at z ~ p(z), where the samples of a row share their upper levels: what the levels below change.

    There is a block of rows for each number of shared levels, and the rows of all blocks begin with the same draws of
    the upper levels. Arrays: x (F, R, K, C, H, W), z1, z2, ... (F, R, K, *event) by level, and fixed (F,), the numbers
    of shared levels.

    Args:
        rows: draws of the upper levels.
        columns: draws of the levels below for each of them.
        fixed: how many upper levels a row shares: a number or a list of numbers; None for 1 to the number of levels
            less 1.
        temperature: temperature of p(z), as of `Samples`.
    """

    def __init__(
        self, *, rows: int, columns: int, fixed: int | Sequence[int] | None, temperature: float | Sequence[float]
    ) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.fixed = _numbers(fixed)
        self.temperature = temperatures(temperature)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        require_several(scene, "samples instead")
        model, levels = scene.model, len(scene.model.events)
        fixed = list(range(1, levels)) if self.fixed is None else self.fixed
        if max(fixed) >= levels:
            hint = f"the model has {levels} levels, of which 1 to {levels - 1} can be fixed"
            raise ConfigError("fixed", self.fixed if len(fixed) > 1 else fixed[0], hint)
        drawn = list(level_samples(model, self.rows, self.columns, fixed, self.temperature))
        x = torch.stack([decode(model, *zs, batch_size=scene.batch_size) for zs in drawn])
        title = f"{scene.name}: means of p(x|z) at z ~ p(z); the samples of a row share their upper levels"
        title += describe_temperature(self.temperature)
        parts = []
        for number, (count, block) in enumerate(zip(fixed, x, strict=True)):
            picture = grid(block)
            kept, redrawn = describe_levels(1, count), describe_levels(count + 1, levels)
            label = f"a row shares {kept}; {redrawn} {'is' if count + 1 == levels else 'are'} drawn for each sample"
            sheet = Sheet((picture.shape[1], picture.shape[2]), "" if number else title, columns=[label])
            parts.append(sheet(picture))
        zs = tuple(torch.stack(level) for level in zip(*drawn, strict=True))
        return Drawing(stacked(parts), {"x": x, **arrays_of(model, zs), "fixed": torch.tensor(fixed)})


def level_samples(
    model: Model, rows: int, columns: int, fixed: Sequence[int], temperature: float | Sequence[float] = 1.0
) -> Iterator[tuple[Tensor, ...]]:
    """Yield for each number of fixed levels samples z ~ p(z) by level, (R, K, *event), of which rows share the upper.

    Args:
        model: with several levels.
        rows: R, the draws of the upper levels.
        columns: K, the draws of the levels below for each of them.
        fixed: numbers of upper levels that a row shares.
        temperature: factor on the spread of p(z), one number or one for each level.
    """
    drawn = model.sample(rows, temperature)
    for count in fixed:
        above = tuple(z.repeat_interleave(columns, dim=0) for z in drawn[:count])
        zs = model.sample(rows * columns, temperature, above=above)
        yield tuple(z.unflatten(0, (rows, columns)) for z in zs)


def _numbers(fixed: object) -> list[int] | None:
    """Return `fixed` as a list of numbers, or None if it is None.

    Raises:
        ConfigError: if it is neither a number of at least 1, nor a list of different ones.
    """
    if fixed is None:
        return None
    if not isinstance(fixed, Sequence) or isinstance(fixed, str):
        return [integer("fixed", fixed, minimum=1)]
    numbers = [integer(f"fixed[{index}]", count, minimum=1) for index, count in enumerate(fixed)]
    if not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError("fixed", list(fixed), "must be null, a number of levels, or different ones, such as [1,2]")
    return numbers
