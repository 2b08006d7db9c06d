"""Data modules of random images in memory."""

from __future__ import annotations

import torch

from nelbo.data import Arrays, Augmentation, Examples
from nelbo.data.module import ImageData


def make(arrays: Arrays | None = None, **changes: object) -> ImageData:
    """Return a data module of `arrays`, by default random ones, with changed options."""
    arrays = arrays or fake()
    options = {
        "name": "fake",
        "source": lambda: arrays,
        "shape": arrays.shape,
        "levels": 256,
        "protocol": "raw",
        "augment": Augmentation(flip=False, pad_crop=0),
        "batch_size": 16,
        "validation_size": 20,
        "seed": 0,
        "shuffle": True,
        "num_workers": 0,
        "order_seed": 0,
    }
    return ImageData(**{**options, **changes})  # type: ignore[arg-type]


def fake(count: int = 100, validation: int = 0) -> Arrays:
    """Return random images of 4x4 pixels, of which the first 30 are the test images."""
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8)
    return Arrays(Examples(images, torch.arange(count)), Examples(images[:30], torch.arange(30)), validation)
