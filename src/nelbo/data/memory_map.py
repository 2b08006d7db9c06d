"""Images in a file that are read when they are indexed, for data sets that do not fit in memory.

Shapes: N examples in the file, B examples in a batch, C H W image.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.errors import DataError

WINDOW = 256 << 20
"""Bytes that may be mapped before pages are released; a map adds about this much to resident memory."""

FAULT = 2 << 20
"""Bytes that Linux maps at most when one page is touched, measured with ext4 on 6.18, whose cache has large pages."""

STORED: dict[torch.dtype, np.dtype] = {torch.uint8: np.dtype(np.uint8), torch.float32: np.dtype("<f4")}
"""Types of stored values that can be mapped, with those of their bytes."""


class MemoryMap:
    """Images or vectors in a file, selected with `index_select` as those of a tensor (N, C, H, W) or (N, D) are.

    The resident memory of the process does not grow with the number of images read: mapped pages are released after
    every `WINDOW` bytes. The system's cache keeps them while there is room, so reading them again is cheap.

    Args:
        path: the file: raw bytes in C order, starting at `offset`.
        shape: shape of the array in the file: (N, C, H, W), (N, H, W, C), (N, H, W), or (N, D) for vectors.
        sha256: SHA-256 of the images, which results store.
        offset: position of the first image in the file, in bytes.
        channels: position of the channels in `shape`: "first" (also of vectors), "last" or "none".
        hint: what the user can do if the file is damaged, for the error.
        levels: number of values of the stored pixels, 0 .. levels - 1, which are spread over 0 .. 255 when they are
            read; None reads them unchanged.
        sixteen_bits: largest value of the 16-bit pictures that the file was made from; the file holds the upper eight
            bits of each value. None if there were no such pictures.
        dtype: type of the stored values: uint8, or float32 for data of real numbers.
        shown: how many channels are those of the images, which come first in the file; None for all.

    Raises:
        DataError: if the file cannot be read, or its length does not fit the shape.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        sha256: str,
        *,
        offset: int = 0,
        channels: str = "first",
        hint: str,
        levels: int | None = None,
        sixteen_bits: int | None = None,
        dtype: torch.dtype = torch.uint8,
        shown: int | None = None,
    ) -> None:
        self._arguments = (path, tuple(shape), sha256, offset, channels, hint, levels, dtype, shown)
        self.dtype, stored_as = dtype, STORED[dtype]
        self.path, self.levels, self.sixteen_bits = path, levels, sixteen_bits
        self.sha256 = sha256 if levels is None else hashlib.sha256(f"{sha256} {levels}".encode()).hexdigest()
        expected = offset + math.prod(shape) * stored_as.itemsize
        if expected == offset:
            raise DataError(f"{path}: the data set is empty")
        try:
            with open(path, "rb") as file:
                size = file.seek(0, 2)
                if size != expected:
                    raise DataError(f"{path}: {size} bytes where {expected} are expected; {hint}")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error}); {hint}") from error
        stored = np.ndarray(tuple(shape), stored_as, buffer=self._map, offset=offset)
        self._stored = channels_first(stored, channels)
        self._images = self._stored if shown is None else self._stored[:, :shown]
        self.shape = self._images.shape
        self._chunk = max(1, WINDOW // (FAULT + math.prod(self.shape[1:]) * stored_as.itemsize))
        self._release = expected > WINDOW and hasattr(mmap, "MADV_DONTNEED")

    def __reduce__(self) -> tuple[object, ...]:
        return _open, self._arguments

    def __len__(self) -> int:
        return int(self.shape[0])

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Return a copy of the images at `index` (B,), as (B, C, H, W).

        Raises:
            ValueError: if `dim` is not 0.
        """
        if dim != 0:
            raise ValueError(f"images are selected along dimension 0, not {dim}")
        positions = index.numpy()
        images = np.empty((len(positions), *self.shape[1:]), STORED[self.dtype])
        for start in range(0, len(positions), self._chunk):
            part = slice(start, start + self._chunk)
            images[part] = self._images[positions[part]]
            if self._release:
                self._map.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(images if self.levels is None else at_levels(images, self.levels))

    def with_levels(self, levels: int) -> MemoryMap:
        """Return a map of the same file whose pixels 0 .. levels - 1 are spread over 0 .. 255."""
        path, shape, sha256, offset, channels, hint, _, dtype, shown = self._arguments
        return _open(path, shape, sha256, offset, channels, hint, levels, dtype, shown)

    def split(self, shown: int) -> tuple[MemoryMap, Tensor]:
        """Return a map of the first channels alone, and where those after them are above 0, (N, C, H, W), bool.

        Args:
            shown: how many channels are those of the images.
        """
        path, shape, sha256, offset, channels, hint, levels, dtype, _ = self._arguments
        rest = torch.from_numpy(self._stored[:, shown:] > 0)
        return _open(path, shape, sha256, offset, channels, hint, levels, dtype, shown), rest


def _open(
    path: Path,
    shape: tuple[int, ...],
    sha256: str,
    offset: int,
    channels: str,
    hint: str,
    levels: int | None,
    dtype: torch.dtype,
    shown: int | None,
) -> MemoryMap:
    more = {"channels": channels, "hint": hint, "levels": levels, "dtype": dtype, "shown": shown}
    return MemoryMap(path, shape, sha256, offset=offset, **more)  # type: ignore[arg-type]


def at_levels(stored: np.ndarray, levels: int) -> np.ndarray:
    """Return uint8 values k = 0 .. levels - 1 as round(255 k / (levels - 1)), in a new array.

    Example:
        >>> at_levels(np.array([0, 1, 2], np.uint8), 3).tolist()
        [0, 128, 255]
    """
    table = bytes(min(255, round(255 * value / (levels - 1))) for value in range(256))
    return np.frombuffer(bytearray(stored.tobytes()).translate(table), np.uint8).reshape(stored.shape)


def channels_first(array: np.ndarray, channels: str) -> np.ndarray:
    """Return a view (N, C, H, W) of images whose channels are "first", "last" or missing ("none").

    Vectors (N, D), whose channels are "first", are returned as they are.
    """
    return array[:, None] if channels == "none" else array if channels == "first" else array.transpose(0, 3, 1, 2)
