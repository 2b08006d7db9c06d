"""From a point of a latent space to a picture.

Shapes: D latents of the top level, C H W image. Levels are numbered from the top, which is level 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.explorer.explored import Explored, Place
from nelbo.models import Model
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.pictures.latent import prior_quantiles
from nelbo.pictures.levels import spread
from nelbo.views.grids import as_pictures

ORIGINS = ("images", "prior", "median", "point")
"""Where the code of the top level is from: one image or two, a sample of p(z), the median of p(z), or given numbers."""

SOURCES = ("images", "prior", "mode")
"""Where the codes of the other levels are from: one image or two, a sample of p(z|above), or its mode."""


@dataclass(frozen=True, eq=False)
class Point:
    """A point of a latent space.

    Args:
        place: the image, the setting and the class.
        origin: one of `ORIGINS`.
        z: the code of the top level, (D,), if `origin` is `point`.
        other: position of the second image.
        step: how far codes of images are on the way to it, from 0, the first image, to `STEPS` - 1.
        path: `linear` or `spherical`.
        level: the number of levels that are set; those below follow.
        upper: one of `SOURCES`, of the levels from 2 to `level`.
        below: one of `SOURCES`, of the levels below `level`.
        shifts: by how many standard deviations of p(z|above) units of levels below the top are moved: by level, by
            unit.
        seed: of samples of p(z).
        temperature: factor on the spread of p(z).
    """

    place: Place
    origin: str = "images"
    z: Tensor | None = None
    other: int = 0
    step: int = 0
    path: str = "linear"
    level: int = 1
    upper: str = "images"
    below: str = "mode"
    shifts: Mapping[int, Mapping[int, float]] | None = None
    seed: int = 0
    temperature: float = 1.0


@torch.no_grad()
def decoded(explored: Explored, point: Point) -> tuple[Tensor, Tensor]:
    """Return the code of the top level, (D,), and the mean of p(x|z) as a picture, (C, H, W) in [0, 1].

    Args:
        explored: the run.
        point: the point.

    Raises:
        ConfigError: if there is no such image, class, setting, level or unit.
    """
    with float32(IEEE):
        model = explored.bound(point.place)
        zs = _codes(explored, model, point)
        x = model.decode(*zs).mean[0]
    return zs[0][0].cpu(), picture(model, x)


def picture(model: Model, x: Tensor) -> Tensor:
    """Return an image, or a chart of a vector, as it is shown, (C, H, W) in [0, 1] with one or three channels."""
    return as_pictures(x, model.value_range, is_vector=len(model.shape) == 1).float().cpu().clamp(0, 1)


def _codes(explored: Explored, model: Model, point: Point) -> list[Tensor]:
    """Return z of every level, top first, (1, *event) each."""
    levels = len(model.events)
    if not 1 <= point.level <= levels:
        raise ConfigError("level", point.level, f"the model has levels 1 to {levels}", located=True)
    own = explored.codes_between(point.place, point.other, point.step, point.path)
    zs = [_top(model, point, own[0])]
    for level in range(2, levels + 1):
        source = point.upper if level <= point.level else point.below
        z = own[level - 1] if source == "images" else _drawn(model, zs, source, point)
        shifts = (point.shifts or {}).get(level, {}) if level <= point.level else {}
        zs.append(_shifted(model, zs, z, shifts) if shifts else z)
    return zs


def _top(model: Model, point: Point, own: Tensor) -> Tensor:
    """Return z of the top level, (1, D), where `own` is that of the images."""
    if point.origin == "prior":
        with isolated(point.seed):
            return model.sample(1, point.temperature)[0]
    if point.origin == "median":
        return prior_quantiles(model, 3)[1].unsqueeze(0)
    if point.origin == "images":
        return own
    (latents,) = model.events[0]
    if point.z is None or point.z.shape != (latents,):
        raise ConfigError("z", None if point.z is None else len(point.z), f"must be {latents} numbers", located=True)
    return point.z.to(own).unsqueeze(0)


def _drawn(model: Model, above: Sequence[Tensor], source: str, point: Point) -> Tensor:
    """Return a sample of p(z|above) of the next level, or its mode, (1, *event)."""
    if source == "mode":
        return model.sample(1, 0, above=above)[len(above)]
    with isolated(point.seed + len(above)):
        return model.sample(1, point.temperature, above=above)[len(above)]


def _shifted(model: Model, above: Sequence[Tensor], z: Tensor, shifts: Mapping[int, float]) -> Tensor:
    """Return a code, (1, *event), whose units are moved by multiples of the standard deviation of p(z|above)."""
    _, deviation = spread(model, [code[0] for code in above])
    moved = z.clone()
    for unit, multiple in shifts.items():
        if not 0 <= unit < z.shape[1]:
            raise ConfigError("shifts", unit, f"level {len(above) + 1} has units 0 to {z.shape[1] - 1}", located=True)
        moved[0, unit] += multiple * deviation[unit]
    return moved
