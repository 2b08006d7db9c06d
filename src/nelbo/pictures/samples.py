"""Samples of the model.

Shapes: N samples, D latent dimensions, C H W image.
"""

from __future__ import annotations

import torch

from nelbo.distributions import temper
from nelbo.errors import choice, number, positive_integer
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet
from nelbo.views.grids import square

PIXELS = ("mean", "sample")


class Samples(Picture):
    """p(x|z) at z ~ p(z): what the model makes of nothing. Arrays x (N, C, H, W) and z (N, D) or one-hot.

    Args:
        rows: of the grid.
        columns: of the grid.
        temperature: the spread of p(z) is multiplied by it; 1 is the model itself.
        pixels: `mean` of p(x|z), or a `sample` of it, with its noise.
    """

    def __init__(self, *, rows: int, columns: int, temperature: float, pixels: str) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = positive_integer("columns", columns)
        self.temperature = number("temperature", temperature, positive=True)
        self.pixels = choice("pixels", pixels, PIXELS)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw."""
        prior = temper(scene.model.prior(scene.model.encode), self.temperature)
        z = prior.sample(torch.Size((self.rows * self.columns,)))
        decoded = [scene.model.decode(part) for part in z.split(scene.batch_size)]
        x = torch.cat([px.mean if self.pixels == "mean" else px.sample() for px in decoded])
        told = "means of p(x|z) at z ~ p(z)" if self.pixels == "mean" else "samples x ~ p(x|z) at z ~ p(z)"
        told += "" if self.temperature == 1 else f", temperature {self.temperature:g}"
        picture = square(x, self.columns)
        sheet = Sheet((picture.shape[1], picture.shape[2]), f"{scene.name}: {told}")
        return Drawing(sheet(picture), {"x": x, "z": z})
