"""The layout of a convolutional hierarchy: how many levels it has at which resolution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nelbo.errors import ConfigError


@dataclass(frozen=True)
class Floor:
    """The levels of one resolution.

    Args:
        size: height and width of their maps.
        levels: their number.
    """

    size: tuple[int, int]
    levels: int


def halved(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return height and width of an image before the first and after each halving, rounded up, down to one pixel.

    Example:
        >>> halved((1, 28, 28))
        [(28, 28), (14, 14), (7, 7), (4, 4), (2, 2), (1, 1)]
    """
    sizes = [(shape[1], shape[2])]
    while max(sizes[-1]) > 1:
        height, width = sizes[-1]
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def parse_layout(layout: Sequence[str], shape: Sequence[int]) -> list[Floor]:
    """Return the floors of a layout, top first.

    Args:
        layout: entries `RxL`, such as ["1x1", "7x3"]: L levels of maps with R rows, one of the sizes to which the image
            can be halved. The first level of the first entry is the top.
        shape: (C, H, W) of the images.

    Raises:
        ConfigError: if an entry is not of that form, a resolution is not among the halvings of the image, or the
            resolutions do not rise.

    Example:
        >>> parse_layout(["1x1", "7x3"], (1, 28, 28))
        [Floor(size=(1, 1), levels=1), Floor(size=(7, 7), levels=3)]
    """
    if isinstance(layout, str) or not isinstance(layout, Sequence) or not layout:
        raise ConfigError("layout", layout, "must be a list of resolution x levels, such as [1x1,7x3]")
    by_rows = {rows: (rows, columns) for rows, columns in halved(shape)[::-1]}
    floors: list[Floor] = []
    for index, entry in enumerate(layout):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(entry))
        if match is None:
            raise ConfigError(f"layout[{index}]", entry, "must be resolution x levels, such as 7x3")
        rows, levels = map(int, match.groups())
        if rows not in by_rows:
            sizes = ", ".join(map(str, sorted(by_rows)))
            hint = f"images of {shape[1]}x{shape[2]} can be halved to {sizes} rows"
            raise ConfigError(f"layout[{index}]", entry, hint)
        if floors and rows <= floors[-1].size[0]:
            raise ConfigError("layout", list(layout), "must rise from low to high resolution, the top level first")
        floors.append(Floor(by_rows[rows], levels))
    if sum(floor.levels for floor in floors) < 2:
        raise ConfigError("layout", list(layout), "must have two or more levels; model=conv_vae has one")
    return floors
