"""Folders of pictures for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> None:
    """Write a random picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], len(mode)) if len(mode) > 1 else size[::-1]
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8), mode).save(path, **options)  # type: ignore[arg-type]


def folder(root: Path, count: int = 12, **options: object) -> Path:
    """Write random pictures of various sizes in two classes, and return `root`."""
    for index in range(count):
        sides = RANDOM.integers(8, 60, 2)
        picture(root / ("cat", "dog")[index % 2] / f"{index:03d}.png", (int(sides[0]), int(sides[1])), **options)
    return root


def png16(path: Path, values: np.ndarray) -> None:
    """Write a 16-bit PNG, which Pillow cannot.

    Args:
        path: the file.
        values: uint16, (H, W, C), with one to four channels.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = {"IHDR": struct.pack(">2I5B", width, height, 16, colour, 0, 0, 0), "IDAT": zlib.compress(rows), "IEND": b""}
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in parts.items():
            chunk = name.encode() + content
            file.write(struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)))
