"""The picture `interpolation`, from one image to another.

Shapes: R pairs, K steps, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from nelbo.errors import ConfigError, choice, integer, positive_integer
from nelbo.pictures.levels import arrays_of, below_at_modes, decode
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet
from nelbo.pictures.traversal import STEPS, back_and_forth
from nelbo.views.grids import grid, joined

PATHS = ("linear", "spherical")
LEVELS = ("all", "top")
SMALLEST_ANGLE = 1e-3
"""Smallest sine of the angle between two codes for which the spherical path is used."""


class Interpolation(Picture):
    """Means of p(x|z) along paths between the codes of two images, with the images themselves at both ends.

    In the moving picture all pairs move back and forth at the same time. Arrays: x (R, K, C, H, W),
    z (R, K, *event), or z1, z2, ... by level, inputs (R, 2, C, H, W), labels (R, 2).

    Args:
        rows: pairs of images, evenly spread over the split.
        columns: steps, including both ends.
        path: `linear`, or `spherical` for a rotation about the origin with constant angular speed.
        levels: `all` for a path at every level, or `top` for the top level alone, with those below at the mode of
            p(z|above).
    """

    moves = True

    def __init__(self, *, rows: int, columns: int, path: str, levels: str) -> None:
        self.rows = positive_integer("rows", rows)
        self.columns = integer("columns", columns, minimum=2)
        self.path = choice("path", path, PATHS)
        self.levels = choice("levels", levels, LEVELS)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        scene.require_vectors("there is no path between two classes; draw reconstructions or a traversal instead")
        if len(scene.images) < 2:
            raise ConfigError("split", scene.split, "has one image; an interpolation needs two")
        rows = min(self.rows, len(scene.images) // 2)
        positions = scene.evenly_spaced(2 * rows)
        inputs = torch.cat(list(scene.batches(positions))).unflatten(0, (rows, 2))
        codes = scene.codes(positions)[: None if self.levels == "all" else 1]
        ends = [z.unflatten(0, (rows, 2)) for z in codes]
        zs = self._paths(ends, self.columns)
        x = decode(scene.model, *zs, batch_size=scene.batch_size)
        values = scene.model.value_range
        picture = joined([grid(part, values=values) for part in (inputs[:, :1], x, inputs[:, 1:])], dim=2)
        title = f"{scene.name}: {self.path} interpolation between the codes of {scene.split} images"
        if len(scene.model.events) > 1:
            below = below_at_modes(scene.model)
            title += ", at all levels" if self.levels == "all" else f", at the top level{below}"
        labels = ["input", *[""] * self.columns, "input"]
        sheet = Sheet((picture.shape[1], picture.shape[2]), title, columns=labels)
        arrays = {"x": x, **arrays_of(scene.model, zs), "inputs": inputs}
        arrays["labels"] = scene.images.labels[positions].unflatten(0, (rows, 2))
        return Drawing(sheet(picture), arrays, lambda: self._frames(scene, inputs, ends, title))

    def _paths(self, ends: Sequence[Tensor], steps: int) -> list[Tensor]:
        """Return the paths at each level, (R, steps, *event), between ends (R, 2, *event)."""
        flat = [z.flatten(2) for z in ends]
        paths = [between(z[:, 0], z[:, 1], steps, self.path) for z in flat]
        return [path.unflatten(-1, z.shape[2:]) for path, z in zip(paths, ends, strict=True)]

    def _frames(self, scene: Scene, inputs: Tensor, ends: Sequence[Tensor], title: str) -> Iterator[Image.Image]:
        x = decode(scene.model, *self._paths(ends, STEPS), batch_size=scene.batch_size)

        def picture(step: int) -> Tensor:
            parts = (inputs[:, :1], x[:, step : step + 1], inputs[:, 1:])
            return joined([grid(part, values=scene.model.value_range) for part in parts], dim=2)

        _, height, width = picture(0).shape
        sheet = Sheet((height, width), title, columns=["input", "", "input"])
        for step in back_and_forth(STEPS):
            yield sheet(picture(step))


def between(first: Tensor, last: Tensor, steps: int, path: str) -> Tensor:
    """Return paths between codes, (R, steps, D).

    A linear path is (1 - t) a + t b. A spherical one is (sin((1 - t) w) a + sin(t w) b) / sin w, with w the angle
    between a and b (Shoemake 1985); for codes in the same or in opposite directions the linear path is used.

    Args:
        first: where the paths start, (R, D).
        last: where they end, (R, D).
        steps: codes on a path, including both ends.
        path: `linear` or `spherical`.

    Example:
        >>> between(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), steps=3, path="linear").tolist()
        [[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]
    """
    a, b = first.unsqueeze(1), last.unsqueeze(1)
    t = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device).unsqueeze(-1)
    linear = (1 - t) * a + t * b
    if path == "linear":
        return linear
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=-1).clamp(-1, 1).unsqueeze(-1)
    angle = cosine.acos()
    sine = angle.sin()
    spherical = (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / sine.clamp(min=SMALLEST_ANGLE)
    return torch.where(sine > SMALLEST_ANGLE, spherical, linear)
