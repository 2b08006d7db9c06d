"""The 8x8 handwritten digits that are part of scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from nelbo.data.arrays import Arrays, Examples

TRAINING = 1500


def digits() -> Arrays:
    """Return the digits of scikit-learn: 1,500 training and 297 test images of 1x8x8, ten classes.

    The test images are the last ones. Pixels v = 0 .. 16 are stored as round(v * 255 / 16). Nothing is downloaded.

    Example:
        >>> arrays = digits()
        >>> arrays.shape, len(arrays.train), len(arrays.test)
        ((1, 8, 8), 1500, 297)
    """
    from sklearn.datasets import load_digits  # takes a second to import and is needed for this data set only

    bunch = load_digits()
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).long()
    return Arrays(
        Examples(images[:TRAINING], labels[:TRAINING]),
        Examples(images[TRAINING:], labels[TRAINING:]),
        classes=tuple("0123456789"),
    )
