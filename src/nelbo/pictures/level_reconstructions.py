"""The picture `level_reconstructions`, what of an image the upper levels know.

Shapes: F numbers of upper levels, N images, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from nelbo.errors import positive_integer
from nelbo.models import Model
from nelbo.pictures.levels import chosen_numbers, describe_levels, require_several, upper_numbers
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.grids import grid


class LevelReconstructions(Picture):
    """Images, evenly spread over a split, above their reconstructions from the upper levels alone.

    The upper levels are at the mode of q(z|x), those below them at the mode of p(z|above), so that each row shows what
    more levels add. Arrays: x (N, C, H, W), means (F, N, C, H, W), labels (N,), upper (F,).

    Args:
        rows: blocks of rows.
        columns: images in each of them.
        upper: from how many upper levels they are reconstructed: a number or a list of numbers; None for up to 5
            numbers, evenly spread from 1 to all levels.
    """

    def __init__(self, *, rows: int, columns: int, upper: int | Sequence[int] | None) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.upper = upper_numbers(upper)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        require_several(scene, "reconstructions instead")
        upper = chosen_numbers(self.upper, len(scene.model.events))
        columns = min(self.columns, len(scene.images))
        rows = min(self.rows, len(scene.images) // columns)
        positions = scene.evenly_spaced(rows * columns)
        x = torch.cat(list(scene.batches(positions)))
        means = torch.cat(
            [level_reconstructions(scene.model, part, upper) for part in x.split(scene.batch_size)], dim=1
        )
        title = f"{scene.name}: {scene.split} images, and their reconstructions from the upper levels"
        title += ", with the levels below at the mode of p(z|above)"
        labels = scene.images.labels[positions]
        names = ["image", *(upper_levels(scene.model, count) for count in upper)]
        parts: list[Image.Image] = []
        for images, of_them in zip(x.split(columns), means.split(columns, dim=1), strict=True):
            picture = grid(torch.cat([images.unsqueeze(0), of_them]), values=scene.model.value_range)
            sheet = Sheet((picture.shape[1], picture.shape[2]), "" if parts else title, rows=names)
            parts.append(sheet(picture))
        return Drawing(stacked(parts), {"x": x, "means": means, "labels": labels, "upper": torch.tensor(upper)})


def upper_levels(model: Model, count: int) -> str:
    """Return the name of the `count` upper levels."""
    return "all levels" if count == len(model.events) else describe_levels(1, count)


def level_reconstructions(model: Model, x: Tensor, upper: Sequence[int]) -> Tensor:
    """Return means of p(x|z) at the modes of q(z|x) of the upper levels alone, (F, B, C, H, W).

    The levels below are at the mode of p(z|above).

    Args:
        model: the model.
        x: images, (B, C, H, W), in [0, 1].
        upper: numbers of upper levels.
    """
    inference = model.infer(x)
    return torch.stack([model.draw(x, inference, 1, mode=True, prior_from=count).px.mean[0] for count in upper])
