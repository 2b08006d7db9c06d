"""The scale of stored pixel values: which value is white.

Images with the values 0 and 1 may be black and white, or almost black on a scale of 255. If the pixels do not decide
it, the user has to set `data.levels`.

Shapes: N images, C H W image.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import Arrays
from nelbo.data.memory_map import MemoryMap, at_levels
from nelbo.errors import ConfigError, DataError

EIGHT_BITS = 256
DARK = 64
"""If no pixel of a data set reaches this value, white is probably not 255."""

HALF = 128
"""The same threshold where the number of levels is given: white is then levels - 1, or 255."""

CHUNK_BYTES = 16 << 20

TRAINING = "training images"


def settle(arrays: Arrays, levels: int | None, name: str) -> Arrays:
    """Return a data set of 8-bit images in which 255 is white.

    Values 0 .. levels - 1 are spread evenly over 0 .. 255. A data set with larger values is returned unchanged. The
    training, validation and test images must have the same scale if they were stored separately.

    Args:
        arrays: the data set as its source returns it.
        levels: number of values that a pixel can take; None for 256, if the pixels leave no doubt that 255 is white.
        name: name of the data set, for messages.

    Raises:
        ConfigError: if the largest pixel value does not show which value is white.
        DataError: if images are not uint8, all of their pixels are equal, or the scale differs between splits.
    """
    bright = DARK if levels is None else 2 if levels == EIGHT_BITS else max(HALF, levels)
    parts = _parts(arrays)
    for part, (images, _) in parts.items():
        _check_sixteen_bits(images, bright, f"{name}: its {part}")
    ranges = {part: extremes(images, rows, bright, name) for part, (images, rows) in parts.items()}
    low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    if low == high:
        raise DataError(f"{name}: every pixel of every image is {low}, so there is nothing to learn")
    training = ranges.get(TRAINING, (low, high))
    if training[0] == training[1]:
        raise DataError(f"{name}: every pixel of every training image is {training[0]}, so there is nothing to learn")
    if high >= bright:
        _check_same_scale(ranges, bright, name)
        return arrays
    if levels is None or levels == EIGHT_BITS or high >= levels:
        dark = f", or data.levels={EIGHT_BITS} if white is 255 and the images are dark" if high > 1 else ""
        hint = f"no pixel is brighter than {high} of 255; set data.levels={high + 1} if {high} is white{dark}"
        raise ConfigError("levels", levels, hint)
    spread = {key: _spread(images, levels) for key, images in _stored(arrays).items()}
    train, test = (replace(part, images=spread[id(part.images)]) for part in (arrays.train, arrays.test))
    return replace(arrays, train=train, test=test)


def extremes(images: Tensor | MemoryMap, rows: Tensor, enough: int, name: str) -> tuple[int, int]:
    """Return the smallest and the largest pixel value of the images at `rows`.

    The search stops as soon as the largest value seen is at least `enough` and a smaller one has been seen.

    Args:
        images: (N, C, H, W), uint8.
        rows: positions of the images to search.
        enough: value at which the search can stop.
        name: name of the data set, for messages.

    Raises:
        DataError: if images are not uint8.
    """
    if not isinstance(images, Tensor | MemoryMap):
        raise DataError(f"{name}: its images are {type(images).__name__}; a data function must return a uint8 tensor")
    if isinstance(images, Tensor) and images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        needs = "a data function must return uint8, with 255 for white, or floats"
        raise DataError(f"{name}: its images are {kind}; {needs}")
    low, high = EIGHT_BITS, -1
    size = max(1, CHUNK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for chunk_rows in rows.split(size):
        chunk = images.index_select(0, chunk_rows)
        low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
        if high >= enough and low < high:
            break
    return low, high


def _check_same_scale(ranges: dict[str, tuple[int, int]], bright: int, name: str) -> None:
    """Check that no split is dark while another one is bright, because they probably have different scales.

    Args:
        ranges: smallest and largest pixel value of each split.
        bright: splits that reach this value are bright.
        name: name of the data set, for messages.

    Raises:
        DataError: for the first dark split.
    """
    brightest, largest = max(((part, high) for part, (_, high) in ranges.items()), key=lambda item: item[1])
    for part, (_, high) in ranges.items():
        if high >= bright:
            continue
        if high == 0:
            problem = f"every pixel of its {part} is 0, but its {brightest} reach {largest}"
            raise DataError(f"{name}: {problem}; replace them")
        dark = f", or data.levels={EIGHT_BITS} if white is 255 and they are dark" if high > 1 else ""
        scaled = "x * 255" if high == 1 else f"np.round(x * (255 / {high})).astype(np.uint8)"
        hint = f"save its {part} as {scaled} if {high} is white{dark}"
        problem = f"no pixel of its {part} is brighter than {high} of 255, but its {brightest} reach {largest}"
        raise DataError(f"{name}: {problem}; {hint}")


def _check_sixteen_bits(images: Tensor | MemoryMap, bright: int, description: str) -> None:
    """Check that 16-bit pictures use the whole range, because only the upper eight bits of each value are kept.

    Raises:
        DataError: if the largest value shows that white is less than 65535.
    """
    largest = images.sixteen_bits if isinstance(images, MemoryMap) else None
    if largest is None or largest >> 8 >= bright:
        return
    bits = max(8, largest.bit_length())
    save = f"save x >> {bits - 8} as 8 bits" if bits > 8 else "save x as 8 bits"
    dark = f", or data.levels={EIGHT_BITS} if white is 65535 and they are dark" if largest >> 8 > 1 else ""
    raise DataError(
        f"{description} are 16-bit pictures with no value above {largest}, but white is read as 65535; "
        f"{save} if {2**bits - 1} is white{dark}"
    )


def _parts(arrays: Arrays) -> dict[str, tuple[Tensor | MemoryMap, Tensor]]:
    """Return the splits that were stored separately: by name, an array of images and the split's rows in it, (N,)."""
    train, test = arrays.train, arrays.test
    rows = torch.arange(len(train.images))
    used = rows if train.indices is None else train.indices
    held = used[len(used) - arrays.validation :]
    parts = {
        TRAINING: (train.images, rows[~torch.isin(rows, held)]),
        "validation images": (train.images, held),
    }
    if test.images is not train.images:
        parts["test images"] = (test.images, torch.arange(len(test.images)))
    return {name: (images, rows) for name, (images, rows) in parts.items() if len(rows)}


def _stored(arrays: Arrays) -> dict[int, Tensor | MemoryMap]:
    """Return the image arrays of the training and test sets by their `id`; both may be parts of the same array."""
    return {id(part.images): part.images for part in (arrays.train, arrays.test)}


def _spread(images: Tensor | MemoryMap, levels: int) -> Tensor | MemoryMap:
    if isinstance(images, MemoryMap):
        return images.with_levels(levels)
    return torch.from_numpy(at_levels(images.numpy(), levels))
