"""What stored values mean. 0 and 1 in eight bits may be black and white, or black twice: that is asked, not guessed.

Shapes: N images, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator
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

CHUNK_BYTES = 16 << 20


def settle(arrays: Arrays, levels: int | None, name: str) -> Arrays:
    """The set with 255 as its white.

    Values 0 .. levels - 1 are spread evenly over 0 .. 255; a set with larger values is kept as it is.

    Args:
        arrays: as its source gives it.
        levels: how many values a pixel may take; None for 256, where that is no guess.
        name: of the set, for messages.

    Raises:
        ConfigError: if the brightest pixel does not tell what white is.
        DataError: if images are no uint8, or all of their pixels are equal.
    """
    bright = 2 if levels == EIGHT_BITS else max(DARK, levels or 0)
    low, high = extremes(arrays, bright, name)
    if low == high:
        raise DataError(f"{name}: every pixel of every image is {low}, so there is nothing to learn")
    if high >= bright:
        return arrays
    if levels is None or levels == EIGHT_BITS or high >= levels:
        dark = f"; data.levels={EIGHT_BITS} if white is 255, and these are dark" if high > 1 else ""
        hint = f"no pixel is brighter than {high} of 255: data.levels={high + 1} if {high} is white{dark}"
        raise ConfigError("levels", levels, hint)
    spread = {key: _spread(images, levels) for key, images in _stored(arrays).items()}
    train, test = (replace(part, images=spread[id(part.images)]) for part in (arrays.train, arrays.test))
    return replace(arrays, train=train, test=test)


def extremes(arrays: Arrays, enough: int, name: str) -> tuple[int, int]:
    """The smallest and the largest stored value, looked for until the latter is `enough` and the former is smaller.

    Raises:
        DataError: if images are no uint8.
    """
    low, high = EIGHT_BITS, -1
    for images in _stored(arrays).values():
        if isinstance(images, Tensor) and images.dtype != torch.uint8:
            kind = str(images.dtype).removeprefix("torch.")
            raise DataError(f"{name}: its images are {kind}; a data function returns uint8, with 255 for white")
        for chunk in _chunks(images):
            low, high = min(low, int(chunk.min())), max(high, int(chunk.max()))
            if high >= enough and low < high:
                return low, high
    return low, high


def _stored(arrays: Arrays) -> dict[int, Tensor | MemoryMap]:
    """Training and test images by their `id`: they may be the same, of which each takes some."""
    return {id(part.images): part.images for part in (arrays.train, arrays.test)}


def _chunks(images: Tensor | MemoryMap) -> Iterator[np.ndarray]:
    size = max(1, CHUNK_BYTES // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), size):
        yield images.index_select(0, torch.arange(start, min(start + size, len(images)))).numpy()


def _spread(images: Tensor | MemoryMap, levels: int) -> Tensor | MemoryMap:
    if isinstance(images, MemoryMap):
        return images.with_levels(levels)
    return torch.from_numpy(at_levels(images.numpy(), levels))
