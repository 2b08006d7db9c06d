"""A plane of latent space, decoded.

Shapes: R rows, K columns, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nelbo.errors import ConfigError, positive_integer
from nelbo.pictures.activity import ranking, require_units, start, unit_numbers
from nelbo.pictures.latent import plane, prior_quantiles
from nelbo.pictures.picture import Drawing, Picture, Scene, image_index
from nelbo.pictures.sheet import Sheet
from nelbo.pictures.traversal import decode
from nelbo.views.grids import grid


class Manifold(Picture):
    """p(x|z).mean over quantiles of the prior, 2.5% to 97.5%, of two units (Kingma & Welling 2014, figure 4).

    With more than two units, those two of the largest KL over images, the others held fixed. Arrays x (R, K, C, H, W),
    z (R, K, D), units (2,), that of the columns first.

    Args:
        rows: of the grid.
        columns: of the grid.
        image: at whose code the other units stay; None keeps them at the median of the prior.
        units: other two than those of the largest KL. Given, or of a model with two, and without an image, no data are
            needed.
    """

    def __init__(self, *, rows: int, columns: int, image: int | None, units: Sequence[int] | None) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.image = image_index(image)
        self.units = unit_numbers(units, 2)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw."""
        scene.require_vectors("they have no quantiles: draw its traversal or samples")
        model = scene.model
        if model.latent_dim < 2:
            raise ConfigError("run", scene.name, "has one latent, and a manifold needs two: draw its traversal")
        if model.latent_dim == 2 and self.image is not None:
            raise ConfigError("image", self.image, "is for the other units, and this model has two")
        origin, place = start(scene, self.image)
        if self.units is not None:
            units = require_units(model, self.units)
        else:
            units = torch.arange(2) if model.latent_dim == 2 else ranking(scene).order[:2].sort().values
        first, second = units.tolist()
        z = plane(origin, (first, second), prior_quantiles(model, self.columns), prior_quantiles(model, self.rows))
        x = decode(scene, z)
        picture = grid(x)
        told = f"{scene.name}: p(x|z) over the quantiles of the prior, unit {first} to the right, unit {second} upwards"
        if model.latent_dim > 2:
            told += f"; the other {model.latent_dim - 2} at {place}"
        sheet = Sheet((picture.shape[1], picture.shape[2]), told)
        return Drawing(sheet(picture), {"x": x, "z": z, "units": units})
