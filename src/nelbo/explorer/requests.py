"""What the page sends, checked, and what it is sent, as plain containers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nelbo.errors import ConfigError, choice, integer, number
from nelbo.explorer.decoding import ORIGINS, SOURCES, Point
from nelbo.explorer.explored import STEPS, Explored, Place
from nelbo.explorer.overview import Overview, Plane
from nelbo.explorer.posterior import ImagePosterior
from nelbo.pictures.interpolation import PATHS

DIGITS = 5
"""Digits after the point of numbers that the page is sent."""

LARGEST_SEED = 2**31


def place_of(explored: Explored, body: Mapping[str, Any]) -> Place:
    """Return the place that a request names.

    Raises:
        ConfigError: for a value of another kind.
    """
    label = body.get("label")
    return Place(
        image=integer("image", body.get("image"), minimum=0),
        setting=setting_of(explored, body.get("setting")),
        label=None if label is None else integer("label", label, minimum=-1),
    )


def setting_of(explored: Explored, setting: object) -> dict[str, float]:
    """Return the setting of a request, of those that the model was trained for.

    Raises:
        ConfigError: for another name, or a value that is no number.
    """
    if not isinstance(setting, Mapping) or not set(setting) <= set(explored.axes):
        raise ConfigError("setting", setting, f"must have names of {sorted(explored.axes)}", located=True)
    return {name: value if isinstance(value, int) else number(name, value) for name, value in setting.items()}


def point_of(explored: Explored, body: Mapping[str, Any]) -> Point:
    """Return the point that a request names.

    Raises:
        ConfigError: for a value of another kind.
    """
    origin = choice("origin", body.get("origin"), ORIGINS)
    return Point(
        place=place_of(explored, body),
        origin=origin,
        z=_vector(body.get("z")) if origin == "point" else None,
        other=integer("other", body.get("other"), minimum=0),
        step=integer("step", body.get("step"), minimum=0, maximum=STEPS - 1),
        path=choice("path", body.get("path"), PATHS),
        level=integer("level", body.get("level"), minimum=1),
        upper=choice("upper", body.get("upper"), SOURCES),
        below=choice("below", body.get("below"), SOURCES),
        shifts=_shifts(body.get("shifts")),
        seed=integer("seed", body.get("seed"), minimum=0, maximum=LARGEST_SEED),
        temperature=number("temperature", body.get("temperature"), minimum=0),
    )


def units_of(body: Mapping[str, Any]) -> list[int] | None:
    """Return the two units of the plane that a request names; None for the model's own plane.

    Raises:
        ConfigError: for anything but whole numbers.
    """
    units = body.get("axes")
    if units is None:
        return None
    if not isinstance(units, Sequence) or isinstance(units, str):
        raise ConfigError("axes", units, "must be null or two units", located=True)
    return [integer("axes", unit, minimum=0) for unit in units]


def overview_content(codes: Overview) -> dict[str, Any]:
    """Return the codes of images for the page: the units of each level, and the range of those of the top one."""
    levels = [
        {"order": units.order.tolist(), "kl": None if units.kl is None else numbers(units.kl)} for units in codes.levels
    ]
    return {"levels": levels, "low": numbers(codes.low), "high": numbers(codes.high)}


def plane_content(codes: Overview, plane: Plane) -> dict[str, Any]:
    """Return a plane for the page, with the points of the images and of the prior on it."""
    return {
        "origin": numbers(plane.origin),
        "axes": [numbers(axis) for axis in plane.axes],
        "names": list(plane.names),
        "points": [numbers(point) for point in plane.project(codes.means)],
        "prior": [numbers(point) for point in plane.project(codes.prior)],
        "labels": codes.labels.tolist(),
        "images": codes.positions.tolist(),
    }


def posterior_content(posterior: ImagePosterior) -> dict[str, Any]:
    """Return the posterior of an image for the page."""
    levels = [
        {
            "mean": numbers(level.mean),
            "deviation": numbers(level.deviation),
            "kl": None if level.kl is None else numbers(level.kl),
            "total": None if level.total is None else round(level.total, DIGITS),
        }
        for level in posterior.levels
    ]
    own = {"label": posterior.label, "distortion": round(posterior.distortion, DIGITS)}
    return {**own, "picture": picture_content(posterior.x), "levels": levels}


def decoded_content(z: Tensor, picture: Tensor) -> dict[str, Any]:
    """Return a decoded code for the page."""
    return {"z": numbers(z), "picture": picture_content(picture)}


def picture_content(picture: Tensor) -> dict[str, Any]:
    """Return a picture (C, H, W) in [0, 1] for the page: its size, and its bytes, row by row, in base64."""
    channels, height, width = picture.shape
    pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    content = base64.b64encode(pixels.numpy().tobytes()).decode("ascii")
    return {"channels": channels, "height": height, "width": width, "pixels": content}


def numbers(values: Tensor) -> list[float]:
    """Return a vector as a list of rounded numbers.

    Example:
        >>> numbers(torch.tensor([0.1234567, 2.0]))
        [0.12346, 2.0]
    """
    return [round(value, DIGITS) for value in values.tolist()]


def _vector(values: object) -> Tensor:
    """Return numbers as a tensor, (D,).

    Raises:
        ConfigError: for anything but a list of finite numbers.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError("z", values, "must be a list of numbers", located=True)
    return torch.tensor([number("z", value) for value in values], dtype=torch.float32)


def _shifts(shifts: object) -> dict[int, dict[int, float]]:
    """Return shifts by level, by unit.

    Raises:
        ConfigError: for anything but objects of numbers whose names are whole numbers.
    """
    if not isinstance(shifts, Mapping):
        raise ConfigError("shifts", shifts, "must be an object", located=True)
    by_level: dict[int, dict[int, float]] = {}
    for level, units in shifts.items():
        if not isinstance(units, Mapping) or not all(str(name).isdecimal() for name in [level, *units]):
            raise ConfigError("shifts", shifts, "must be an object of objects of numbers", located=True)
        by_level[int(level)] = {int(unit): number("shifts", value) for unit, value in units.items()}
    return by_level
