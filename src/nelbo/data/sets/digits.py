"""The 8x8 handwritten digits that are part of scikit-learn."""

from __future__ import annotations

import numpy as np
import torch

from nelbo.data.arrays import Arrays, Examples
from nelbo.data.compat import digits_table

TRAINING = 1500


def digits() -> Arrays:
    """Return the digits of scikit-learn: 1,500 training and 297 test images of 1x8x8, ten classes.

    The test images are the last ones. Pixels v = 0 .. 16 are stored as round(v * 255 / 16). Nothing is downloaded.

    Example:
        >>> arrays = digits()
        >>> arrays.shape, len(arrays.train), len(arrays.test)
        ((1, 8, 8), 1500, 297)
    """
    table = digits_table()
    images = torch.from_numpy(np.round(table[:, :-1] * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, -1].astype(np.int64))
    return Arrays(
        Examples(images[:TRAINING], labels[:TRAINING]),
        Examples(images[TRAINING:], labels[TRAINING:]),
        classes=tuple("0123456789"),
    )
