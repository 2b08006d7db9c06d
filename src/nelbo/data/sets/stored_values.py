"""What the arrays of a file hold: 8-bit pixels, or real numbers that are served as they are.

Shapes: N examples, C H W image, D numbers of a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nelbo.data.reals import refuse_not_finite
from nelbo.data.sets.eight_bits import advice, eight_bits
from nelbo.errors import ConfigError, DataError, choice

log = logging.getLogger(__name__)
LAYOUT = "images of shape (N, H, W), (N, C, H, W) or (N, H, W, C), or vectors of shape (N, D)"
FIRST, LAST, NONE = "first", "last", "none"
LAYOUTS = (FIRST, LAST)
USUAL_CHANNELS = (1, 3)

HEAD = 1000
"""Number of examples at the start of a file from which it is judged whether it holds 8-bit pixels as floats."""


def layout_of(shape: tuple[int, ...], layout: str | None, path: Path, name: str) -> str:
    """Return where the channels of an array are: "first" (also of vectors), "last", or "none" if they are missing.

    Args:
        shape: shape of the array.
        layout: "first" or "last"; None to judge from the shape: 1 or 3 channels, or else the shorter of both ends.
        path: the file, for messages.
        name: name of the array, for messages.

    Raises:
        ConfigError: if `layout` is something else, or null where the shape does not show it.
        DataError: if the array holds neither images nor vectors.
    """
    if layout is not None:
        choice("layout", layout, LAYOUTS)
    if 0 in shape[1:] or len(shape) not in (2, 3, 4):
        raise DataError(f"{path}: {name} has shape {shape}; needs {LAYOUT}")
    if len(shape) < 4:
        return FIRST if len(shape) == 2 else NONE
    if layout is not None:
        return layout
    for place, channels in ((FIRST, shape[1]), (LAST, shape[3])):
        if channels in USUAL_CHANNELS:
            return place
    if shape[1] <= min(shape[2:]):
        return FIRST
    hint = f"{name} of {path.name} has shape {shape}, which may be (N, C, H, W) or (N, H, W, C)"
    raise ConfigError("layout", layout, f"{hint}; set data.layout=first or data.layout=last")


def as_stored(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Return arrays of images or vectors as uint8 pixels if all of them can be, or else as float32.

    Whole numbers from 0 to 255, booleans, and floats that are multiples of 1/255 in [0, 1] are pixels. Other floats are
    real numbers. Empty arrays take the type of the others.

    Args:
        arrays: the arrays by name.
        path: their file, for messages.

    Raises:
        DataError: if an array holds NaN, infinity, or something else, or if only some hold real numbers.
    """
    pixels = {name: eight_bits(array) for name, array in arrays.items() if len(array)}
    real = [name for name, converted in pixels.items() if converted is None]
    for name in real:
        if arrays[name].dtype.kind != "f":
            raise DataError(f"{path}: {advice(arrays[name], name)}")
    if not real:
        empty = {name: array.astype(np.uint8) for name, array in arrays.items() if not len(array)}
        return {**empty, **{name: converted for name, converted in pixels.items() if converted is not None}}
    for name, array in arrays.items():
        if len(array) and array.dtype.kind != "f":
            problem = f"{name} holds {array.dtype}, and {real[0]} floats"
            raise DataError(f"{path}: {problem}; save both as pixels of 8 bits, or both as floats")
    return {name: as_float32(array, path, name) for name, array in arrays.items()}


def as_float32(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Return real numbers as float32, after checking that they are finite.

    Raises:
        DataError: if they are not, also if they are too large for float32.
    """
    refuse_not_finite(array, str(path), name)
    with np.errstate(over="ignore"):
        values = np.asarray(array, np.float32)
    if values.dtype != array.dtype:  # the largest numbers of float64 become infinite
        refuse_not_finite(values, str(path), f"{name} as float32")
    warn_of_pixels(array, path, name)
    return values


def holds_pixels(array: np.ndarray) -> bool:
    """Return whether the first examples of an array are 8-bit pixels, so that all of them may be."""
    return eight_bits(np.array(array[:HEAD])) is not None


def warn_of_pixels(array: np.ndarray, path: Path, name: str) -> None:
    """Log a warning if real numbers look like 8-bit pixels that were saved as floats."""
    head = np.array(array[:HEAD])
    if head.size and head.min() >= 0 and 64 <= head.max() <= 255 and (head == np.round(head)).all():
        hint = f"save np.round({name}).astype(np.uint8) for pixels"
        log.warning("%s: %s holds whole numbers from 0 to 255 as floats, served as they are; %s", path, name, hint)
