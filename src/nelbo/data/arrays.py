"""A data set in memory.

Shapes: N examples, C H W image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set as published: uint8 images in [0, 255] and integer labels.

    Args:
        train_images: (N, C, H, W), uint8.
        train_labels: (N,), int64; `UNLABELLED` where there are none.
        test_images: (N, C, H, W), uint8.
        test_labels: (N,), int64.
        validation: how many of the last training images are a published validation set; 0 if there is none.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    validation: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.train_images.shape[1:])


def unlabelled(count: int) -> Tensor:
    """Labels for images that have none, (N,)."""
    return torch.full((count,), UNLABELLED)
