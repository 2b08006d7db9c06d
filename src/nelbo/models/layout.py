"""The layout of a convolutional hierarchy: how many levels it has at which resolution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nelbo.errors import ConfigError

LARGE = 28
"""The largest number of rows of an image whose default layout has one resolution below the top."""

FEWEST = 4
"""The least number of rows of the maps of a default layout."""


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


def default_layout(shape: Sequence[int]) -> list[str]:
    """Return a layout for images of a size, with its largest maps at half or a quarter of theirs.

    Images with more than `LARGE` rows have levels at an eighth, a quarter and half of their resolution; smaller ones a
    top level of one pixel and levels at a quarter, or at half if a quarter has fewer than `FEWEST` rows.

    Example:
        >>> default_layout((1, 28, 28)), default_layout((3, 32, 32)), default_layout((1, 8, 8))
        (['1x1', '7x3'], ['4x1', '8x2', '16x3'], ['1x1', '4x3'])
    """
    rows = [size[0] for size in halved(shape)]
    if rows[0] > LARGE:
        return [f"{rows[3]}x1", f"{rows[2]}x2", f"{rows[1]}x3"]
    halvings = 2 if len(rows) > 3 and rows[2] >= FEWEST else 1
    return ["1x1", f"{rows[min(halvings, len(rows) - 2)]}x3"]


def parse_layout(layout: Sequence[str] | None, shape: Sequence[int]) -> list[Floor]:
    """Return the floors of a layout, top first.

    Args:
        layout: entries `RxL`, such as ["1x1", "7x3"]: L levels of maps with R rows, one of the sizes to which the image
            can be halved. The first level of the first entry is the top. None for `default_layout`.
        shape: (C, H, W) of the images.

    Raises:
        ConfigError: if an entry is not of that form, a resolution is not among the halvings of the image, or the
            resolutions do not rise.

    Example:
        >>> parse_layout(["1x1", "7x3"], (1, 28, 28))
        [Floor(size=(1, 1), levels=1), Floor(size=(7, 7), levels=3)]
    """
    if layout is None:
        layout = default_layout(shape)
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
