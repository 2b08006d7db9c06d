"""The 8x8 digits that scikit-learn ships."""

from __future__ import annotations

import numpy as np
import torch

from nelbo.data.arrays import Arrays, Examples

TRAINING = 1500


def digits() -> Arrays:
    """The first 1,500 images to train on, the last 297 to test, 1x8x8, ten classes; no network.

    Pixels come as 0..16 and are stored as round(v * 255 / 16).
    """
    from sklearn.datasets import load_digits  # a second to import, and needed for this set only

    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    return Arrays(
        Examples(images[:TRAINING], labels[:TRAINING]),
        Examples(images[TRAINING:], labels[TRAINING:]),
        classes=tuple("0123456789"),
    )
