"""Folders of pictures for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RANDOM = np.random.default_rng(0)


def picture(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size[::-1], len(mode)) if len(mode) > 1 else size[::-1]
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8), mode).save(path, **options)  # type: ignore[arg-type]


def folder(root: Path, count: int = 12, **options: object) -> Path:
    for index in range(count):
        sides = RANDOM.integers(8, 60, 2)
        picture(root / ("cat", "dog")[index % 2] / f"{index:03d}.png", (int(sides[0]), int(sides[1])), **options)
    return root
