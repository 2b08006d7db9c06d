"""uint8 images on disk, read where they are indexed: sets that do not fit in memory.

Shapes: N or B examples, C H W image.
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
"""Bytes that may be mapped before they are handed back: what a map adds to resident memory stays about here."""

FAULT = 2 << 20
"""What Linux maps around one touched page, at most: measured with ext4 on 6.18, whose cache has large pages."""


class MemoryMap:
    """Images in a file, chosen by `index_select` like those of a tensor (N, C, H, W), for which it is the fastest way.

    A process's resident memory does not grow with what it has read: after every `WINDOW` the mapped pages are handed
    back (they stay in the system's cache as long as it has room, so reading them again is cheap).

    Args:
        path: raw bytes in C order from `offset` on.
        shape: as the file lies: (N, C, H, W), (N, H, W, C) or (N, H, W).
        sha256: of the images; for results.
        offset: of the first image.
        channels: where the file has them: "first", "last" or "none".
        hint: what to say where the file is damaged.
        levels: how many values the file's pixels take, 0 .. levels - 1, which are served spread over 0 .. 255; None
            serves them as they are.
        sixteen_bits: the largest value of the pictures of 16 bits among those that the file was made of, whose upper
            eight it holds; None where there are none.

    Raises:
        DataError: if the file has not the length that the shape says.
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
    ) -> None:
        self._arguments = (path, tuple(shape), sha256, offset, channels, hint, levels)
        self.path, self.levels, self.sixteen_bits = path, levels, sixteen_bits
        self.sha256 = sha256 if levels is None else hashlib.sha256(f"{sha256} {levels}".encode()).hexdigest()
        expected = offset + math.prod(shape)
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
        stored = np.ndarray(tuple(shape), np.uint8, buffer=self._map, offset=offset)
        self._images = channels_first(stored, channels)
        self.shape = self._images.shape
        self._chunk = max(1, WINDOW // (FAULT + math.prod(self.shape[1:])))
        self._hand_back = expected > WINDOW and hasattr(mmap, "MADV_DONTNEED")

    def __reduce__(self) -> tuple[object, ...]:
        return _open, self._arguments

    def __len__(self) -> int:
        return int(self.shape[0])

    def index_select(self, dim: int, where: Tensor) -> Tensor:
        """The images at `where` (B,), copied, (B, C, H, W), as a tensor's `index_select` gives them.

        Raises:
            ValueError: for another dimension than the first.
        """
        if dim != 0:
            raise ValueError(f"images are chosen along dimension 0, not {dim}")
        positions = where.numpy()
        images = np.empty((len(positions), *self.shape[1:]), np.uint8)
        for start in range(0, len(positions), self._chunk):
            part = slice(start, start + self._chunk)
            images[part] = self._images[positions[part]]
            if self._hand_back:
                self._map.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(images if self.levels is None else at_levels(images, self.levels))

    def with_levels(self, levels: int) -> MemoryMap:
        """The same file, its pixels 0 .. levels - 1 served spread over 0 .. 255."""
        path, shape, sha256, offset, channels, hint, _ = self._arguments
        return _open(path, shape, sha256, offset, channels, hint, levels)


def _open(
    path: Path, shape: tuple[int, ...], sha256: str, offset: int, channels: str, hint: str, levels: int | None
) -> MemoryMap:
    return MemoryMap(path, shape, sha256, offset=offset, channels=channels, hint=hint, levels=levels)


def at_levels(stored: np.ndarray, levels: int) -> np.ndarray:
    """A copy of uint8 values k = 0 .. levels - 1 as round(255 k / (levels - 1))."""
    table = bytes(min(255, round(255 * value / (levels - 1))) for value in range(256))
    return np.frombuffer(bytearray(stored.tobytes()).translate(table), np.uint8).reshape(stored.shape)


def channels_first(array: np.ndarray, channels: str) -> np.ndarray:
    """A view (N, C, H, W) of images whose channels come "first", "last" or not at all ("none")."""
    return array[:, None] if channels == "none" else array if channels == "first" else array.transpose(0, 3, 1, 2)
