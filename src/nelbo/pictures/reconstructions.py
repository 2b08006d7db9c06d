"""The picture `reconstructions`, images above their reconstructions.

Shapes: N images, R rows, K columns, D latent dimensions, C H W image.
"""

from __future__ import annotations

import torch

from nelbo.errors import positive_integer
from nelbo.pictures.levels import arrays_of, decode
from nelbo.pictures.picture import Drawing, Picture, Scene, by_level
from nelbo.pictures.sheet import Sheet
from nelbo.views.codes import modes
from nelbo.views.grids import grid, joined


class Reconstructions(Picture):
    """Images, evenly spread over a split, above the mean of p(x|z) at the mean of q(z|x), or its most probable classes.

    Arrays: x and means (N, C, H, W), z (N, *event), or z1, z2, ... by level, and labels (N,).

    Args:
        rows: rows of pairs.
        columns: columns of the grid.
    """

    takes_conditions = True

    def __init__(self, *, rows: int, columns: int) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        columns = min(self.columns, len(scene.images))
        rows = min(self.rows, len(scene.images) // columns)
        positions = scene.evenly_spaced(rows * columns)
        parts = [(x, zs := modes(model, x), decode(model, *zs)) for model, x in scene.given_batches(positions)]
        x, means = (torch.cat(images) for images in ([part[0] for part in parts], [part[2] for part in parts]))
        zs = by_level(part[1] for part in parts)
        pairs = zip(x.split(columns), means.split(columns), strict=True)
        values = scene.model.value_range
        picture = joined([grid(torch.stack(pair), values=values) for pair in pairs], dim=1)
        title = f"{scene.name}: {scene.split} images above their reconstructions"
        labels = scene.images.labels[positions]
        sheet = Sheet((picture.shape[1], picture.shape[2]), title)
        return Drawing(sheet(picture), {"x": x, "means": means, **arrays_of(scene.model, zs), "labels": labels})
