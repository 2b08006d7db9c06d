"""The picture `manifold`, a decoded plane of the latent space.

Shapes: R rows, K columns, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nelbo.errors import ConfigError, positive_integer
from nelbo.pictures.activity import ranking, require_units, start, unit_numbers
from nelbo.pictures.latent import plane, prior_quantiles
from nelbo.pictures.levels import arrays_of, below_at_modes, decode
from nelbo.pictures.picture import Drawing, Picture, Scene, image_index
from nelbo.pictures.sheet import Sheet
from nelbo.views.grids import grid


class Manifold(Picture):
    """Means of p(x|z) over the 2.5% to 97.5% quantiles of the prior of two units (Kingma & Welling 2014, figure 4).

    Of several levels it shows the top one, with those below at the mode of p(z|above). Other units are fixed. Arrays:
    x (R, K, C, H, W), z (R, K, D), or z1 of several levels, units (2,), with that of the columns first.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        image: position of the image at whose code the other units are fixed; None for the median of the prior.
        units: the two units; None for those with the largest KL over images. No data are needed if `image` is None and
            the units are given, or the model has only two.
    """

    def __init__(self, *, rows: int, columns: int, image: int | None, units: Sequence[int] | None) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.image = image_index(image)
        self.units = unit_numbers(units, 2)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        scene.require_vectors("classes have no quantiles; draw a traversal or samples instead")
        model, (latent_dim, *places) = scene.model, scene.model.events[0]
        several = len(model.events) > 1
        if places:
            hint = "has maps at its top level, and the places of a channel have no common quantile; draw a traversal"
            raise ConfigError("run", scene.name, hint)
        if latent_dim < 2:
            where = " at its top level" if several else ""
            hint = f"has one latent{where}, and a manifold needs two; draw a traversal instead"
            raise ConfigError("run", scene.name, hint)
        if latent_dim == 2 and self.image is not None:
            owner = "top level" if several else "model"
            hint = f"fixes the units other than the two shown, and this {owner} has only two; use image=null"
            raise ConfigError("image", self.image, hint)
        (origin, *_), place = start(scene, self.image)
        if self.units is not None:
            units = require_units(model, self.units)
        else:
            units = torch.arange(2) if latent_dim == 2 else ranking(scene).order[:2].sort().values
        first, second = units.tolist()
        z = plane(origin, (first, second), prior_quantiles(model, self.columns), prior_quantiles(model, self.rows))
        x = decode(model, z, batch_size=scene.batch_size)
        picture = grid(x, values=model.value_range)
        prior = "the prior of the top level" if several else "the prior"
        title = f"{scene.name}: p(x|z) over quantiles of {prior}, unit {first} to the right, unit {second} upwards"
        if latent_dim > 2:
            title += f"; the other {latent_dim - 2} at {place}"
        title += below_at_modes(model)
        sheet = Sheet((picture.shape[1], picture.shape[2]), title)
        return Drawing(sheet(picture), {"x": x, **arrays_of(model, (z,)), "units": units})
