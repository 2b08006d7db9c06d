"""What stored values mean. 0 and 1 in eight bits may be black and white, or black twice: that is asked, not guessed.

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
"""A set whose brightest pixel is darker than this of 255 was hardly meant to be: its white is another number."""
HALF = 128
"""The same where the levels are said: their white is their largest value, or 255, of which this is half."""

CHUNK_BYTES = 16 << 20

TRAINING = "training images"


def settle(arrays: Arrays, levels: int | None, name: str) -> Arrays:
    """The set with 255 as its white.

    Values 0 .. levels - 1 are spread evenly over 0 .. 255; a set with larger values is kept as it is. Training,
    validation and test images, where they were stored apart, must say the same.

    Args:
        arrays: as its source gives it.
        levels: how many values a pixel may take; None for 256, where that is no guess.
        name: of the set, for messages.

    Raises:
        ConfigError: if the brightest pixel does not tell what white is.
        DataError: if images are no uint8, all of their pixels are equal, or white differs between parts.
    """
    bright = DARK if levels is None else 2 if levels == EIGHT_BITS else max(HALF, levels)
    parts = _parts(arrays)
    for part, (images, _) in parts.items():
        _check_sixteen_bits(images, bright, f"{name}: its {part}")
    ranges = {part: extremes(images, rows, bright, name) for part, (images, rows) in parts.items()}
    low, high = min(low for low, _ in ranges.values()), max(high for _, high in ranges.values())
    if low == high:
        raise DataError(f"{name}: every pixel of every image is {low}, so there is nothing to learn")
    learned = ranges.get(TRAINING, (low, high))
    if learned[0] == learned[1]:
        raise DataError(f"{name}: every pixel of every training image is {learned[0]}, so there is nothing to learn")
    if high >= bright:
        _check_alike(ranges, bright, name)
        return arrays
    if levels is None or levels == EIGHT_BITS or high >= levels:
        dark = f"; data.levels={EIGHT_BITS} if white is 255, and these are dark" if high > 1 else ""
        hint = f"no pixel is brighter than {high} of 255: data.levels={high + 1} if {high} is white{dark}"
        raise ConfigError("levels", levels, hint)
    spread = {key: _spread(images, levels) for key, images in _stored(arrays).items()}
    train, test = (replace(part, images=spread[id(part.images)]) for part in (arrays.train, arrays.test))
    return replace(arrays, train=train, test=test)


def extremes(images: Tensor | MemoryMap, rows: Tensor, enough: int, name: str) -> tuple[int, int]:
    """The smallest and the largest value of the images at `rows`.

    They are looked for until the largest is `enough` and the smallest is smaller.

    Raises:
        DataError: if images are no uint8.
    """
    if not isinstance(images, Tensor | MemoryMap):
        raise DataError(f"{name}: its images are {type(images).__name__}; a data function returns a tensor of uint8")
    if isinstance(images, Tensor) and images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        raise DataError(f"{name}: its images are {kind}; a data function returns uint8, with 255 for white")
    low, high = EIGHT_BITS, -1
    size = max(1, CHUNK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for where in rows.split(size):
        chunk = images.index_select(0, where)
        low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
        if high >= enough and low < high:
            break
    return low, high


def _check_alike(ranges: dict[str, tuple[int, int]], bright: int, name: str) -> None:
    """Refuse parts that are dark where another is bright, for their white is another number."""
    part, reached = max(((part, high) for part, (_, high) in ranges.items()), key=lambda item: item[1])
    for dim, (_, high) in ranges.items():
        if high >= bright:
            continue
        if high == 0:
            raise DataError(f"{name}: every pixel of its {dim} is 0, and its {part} reach {reached}; replace them")
        dark = f", or data.levels={EIGHT_BITS} if white is 255, and these are dark" if high > 1 else ""
        scaled = "x * 255" if high == 1 else f"np.round(x * (255 / {high})).astype(np.uint8)"
        hint = f"save its {dim} as {scaled} if {high} is white{dark}"
        raise DataError(
            f"{name}: no pixel of its {dim} is brighter than {high} of 255, and its {part} reach {reached}: {hint}"
        )


def _check_sixteen_bits(images: Tensor | MemoryMap, bright: int, place: str) -> None:
    """Refuse pictures of 16 bits whose white is surely less than 65535: their upper eight bits are too few."""
    largest = images.sixteen_bits if isinstance(images, MemoryMap) else None
    if largest is None or largest >> 8 >= bright:
        return
    bits = max(8, largest.bit_length())
    save = f"save x >> {bits - 8} as 8 bits" if bits > 8 else "save x as 8 bits"
    dark = f", or data.levels={EIGHT_BITS} if white is 65535, and these are dark" if largest >> 8 > 1 else ""
    raise DataError(
        f"{place} are 16-bit pictures with no value above {largest}, and white is 65535 here; "
        f"{save} if {2**bits - 1} is white{dark}"
    )


def _parts(arrays: Arrays) -> dict[str, tuple[Tensor | MemoryMap, Tensor]]:
    """What was stored apart: images, and the rows of them that belong to a part, (N,), by the name of the part."""
    train, test = arrays.train, arrays.test
    rows = torch.arange(len(train.images))
    taken = rows if train.indices is None else train.indices
    held = taken[len(taken) - arrays.validation :]
    parts = {
        TRAINING: (train.images, rows[~torch.isin(rows, held)]),
        "validation images": (train.images, held),
    }
    if test.images is not train.images:
        parts["test images"] = (test.images, torch.arange(len(test.images)))
    return {name: (images, rows) for name, (images, rows) in parts.items() if len(rows)}


def _stored(arrays: Arrays) -> dict[int, Tensor | MemoryMap]:
    """Training and test images by their `id`: they may be the same, of which each takes some."""
    return {id(part.images): part.images for part in (arrays.train, arrays.test)}


def _spread(images: Tensor | MemoryMap, levels: int) -> Tensor | MemoryMap:
    if isinstance(images, MemoryMap):
        return images.with_levels(levels)
    return torch.from_numpy(at_levels(images.numpy(), levels))
