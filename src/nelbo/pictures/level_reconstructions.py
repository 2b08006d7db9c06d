"""The picture `level_reconstructions`, what of an image the upper levels know.

Shapes: L levels, N images, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.errors import positive_integer
from nelbo.models import Model
from nelbo.pictures.levels import describe_levels, require_several
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet, stacked
from nelbo.views.grids import grid


class LevelReconstructions(Picture):
    """Images, evenly spread over a split, above their reconstructions from the upper levels, from one level to all.

    The upper levels are at the mode of q(z|x), those below them at the mode of p(z|above), so that each row shows what
    one more level adds. Arrays: x (N, C, H, W), means (L, N, C, H, W), labels (N,).

    Args:
        rows: blocks of rows.
        columns: images in each of them.
    """

    def __init__(self, *, rows: int, columns: int) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        require_several(scene, "reconstructions instead")
        levels = len(scene.model.events)
        columns = min(self.columns, len(scene.images))
        rows = min(self.rows, len(scene.images) // columns)
        positions = scene.evenly_spaced(rows * columns)
        x = torch.cat(list(scene.batches(positions)))
        means = torch.cat([level_reconstructions(scene.model, part) for part in x.split(scene.batch_size)], dim=1)
        title = f"{scene.name}: {scene.split} images, and their reconstructions from the upper levels"
        title += ", with the levels below at the mode of p(z|above)"
        names = ["image", *(describe_levels(1, count) for count in range(1, levels)), "all levels"]
        parts = []
        for images, of_them in zip(x.split(columns), means.split(columns, dim=1), strict=True):
            picture = grid(torch.cat([images.unsqueeze(0), of_them]))
            sheet = Sheet((picture.shape[1], picture.shape[2]), "" if parts else title, rows=names)
            parts.append(sheet(picture))
        return Drawing(stacked(parts), {"x": x, "means": means, "labels": scene.images.labels[positions]})


def level_reconstructions(model: Model, x: Tensor) -> Tensor:
    """Return means of p(x|z) at the modes of q(z|x) of the upper levels alone, from one to all, (L, B, C, H, W).

    The levels below are at the mode of p(z|above).

    Args:
        model: the model.
        x: images, (B, C, H, W), in [0, 1].
    """
    inference = model.infer(x)
    counts = range(1, len(model.events) + 1)
    return torch.stack([model.draw(x, inference, 1, mode=True, prior_from=count).px.mean[0] for count in counts])
