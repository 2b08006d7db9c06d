"""Data of real numbers: floats that are served as they are, in units of their own.

Shapes: N examples, each an image (C, H, W) or a vector (D,).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import Arrays
from nelbo.data.memory_map import MemoryMap
from nelbo.errors import ConfigError, DataError

log = logging.getLogger(__name__)
FINITE = "x[np.isfinite(x).reshape(len(x), -1).all(axis=1)]"
"""NumPy expression for the finite examples of x."""

BITS_OF_BRIGHT = 14
"""Pictures of 16 bits without a value of more bits than these are probably those of a camera with fewer."""

CHUNK = 1 << 22
"""Number of values that are searched at once."""

IN_PICTURES = (0.001, 0.999)
"""Quantiles of the training data that pictures show as black and white."""

MOST_VALUES = 1_000_000
"""Number of values of which quantiles are computed."""


def is_real(images: object) -> bool:
    """Return whether images, or vectors, are stored as floats."""
    return isinstance(images, Tensor | MemoryMap) and images.dtype.is_floating_point


def refuse_not_finite(array: np.ndarray, where: str, name: str) -> None:
    """Check that all values of an array are finite.

    Args:
        array: (N, ...), floats; it may be mapped from a file.
        where: the file, or the name of the data set, for the message.
        name: name of the array, for the message.

    Raises:
        DataError: if some are not; the message has the number of such examples and the position of the first.
    """
    count, first, rows = 0, "", max(1, CHUNK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), rows):
        wrong = ~np.isfinite(array[start : start + rows])
        if not wrong.any():
            continue
        if not first:
            row, *rest = (int(index) for index in np.argwhere(wrong)[0])
            first = f"[{', '.join(map(str, [start + row, *rest]))}]"
        count += int(wrong.reshape(len(wrong), -1).any(axis=1).sum())
    if not count:
        return
    problem = f"holds NaN or infinity in {count} of {len(array)} examples, the first at {first}"
    hint = f"save {FINITE}, where x is {name}, and leave out their labels too"
    raise DataError(f"{where}: {name} {problem}; {hint if count < len(array) else 'replace these values'}")


def settle_real(arrays: Arrays, levels: int | None, name: str) -> tuple[Arrays, tuple[float, float]]:
    """Return a data set of real numbers as float32, and its smallest and largest value.

    Args:
        arrays: the data set as its source returns it, with floats of any precision in training or test data.
        levels: number of values that a pixel can take, which has to be None.
        name: name of the data set, for messages.

    Raises:
        ConfigError: if `levels` is a number.
        DataError: if only one part holds floats, values are not finite, or all of them are equal.
    """
    parts = {"training": arrays.train.images, "test": arrays.test.images}
    for part, images in parts.items():
        if not is_real(images):
            kind = str(getattr(images, "dtype", type(images).__name__)).removeprefix("torch.")
            (other,) = parts.keys() - {part}
            hint = "save both in one type" + (", or set data.bits=16 or 8" if _are_scans(parts[other]) else "")
            raise DataError(f"{name}: its {part} data are {kind} and its {other} data floats; {hint}")
    if levels is not None:
        hint = f"is for pixels of 8 bits, and {name} holds floats, which are served as they are; use data.levels=null"
        hint += ", or data.bits=8" if _are_scans(arrays.train.images) else ""
        raise ConfigError("levels", levels, hint)
    stored = {id(images): _as_float32(images, name, f"its {part} data") for part, images in parts.items()}
    train, test = (replace(part, images=stored[id(part.images)]) for part in (arrays.train, arrays.test))
    for images in stored.values():
        _warn_if_dark(images, name)
    ranges = [(float(chunk.min()), float(chunk.max())) for images in stored.values() for chunk in _chunks(images)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low == high:
        raise DataError(f"{name}: every value of every example is {low:g}, so there is nothing to learn")
    return replace(arrays, train=train, test=test), (low, high)


def _are_scans(images: Tensor | MemoryMap) -> bool:
    """Return whether images were made of 16-bit pictures."""
    return isinstance(images, MemoryMap) and images.sixteen_bits is not None


def _warn_if_dark(images: Tensor | MemoryMap, name: str) -> None:
    """Log a warning about 16-bit pictures whose white is probably less than 65535."""
    largest = images.sixteen_bits if isinstance(images, MemoryMap) else None
    if largest is None or largest.bit_length() > BITS_OF_BRIGHT:
        return
    shift = 16 - largest.bit_length()
    problem = f"its 16-bit pictures have no value above {largest}, but white is read as 65535"
    log.warning("%s: %s; save x << %d if %d is white", name, problem, shift, 2 ** largest.bit_length() - 1)


def _as_float32(images: Tensor | MemoryMap, name: str, part: str) -> Tensor | MemoryMap:
    if isinstance(images, MemoryMap):  # its file has been checked
        return images
    values = images.detach().cpu().float().contiguous()
    refuse_not_finite(values.numpy(), name, part)
    return values


def _chunks(images: Tensor | MemoryMap) -> Iterator[Tensor]:
    rows = max(1, CHUNK // max(1, math.prod(images.shape[1:])))
    for positions in torch.arange(len(images)).split(rows):
        yield images.index_select(0, positions)


def range_in_pictures(x: Tensor) -> tuple[float, float]:
    """Return the values that pictures show as black and white: quantiles of some training data.

    Args:
        x: training data, (N, ...).
    """
    values = x.flatten()
    values = values[:: -(-len(values) // MOST_VALUES)]
    low, high = values.quantile(torch.tensor(IN_PICTURES, dtype=values.dtype, device=values.device)).tolist()
    return (low, high) if low < high else (low - 0.5, high + 0.5)
