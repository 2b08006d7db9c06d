"""What training images may go through before they are presented: flips and shifts, drawn by (seed, epoch, index).

Shapes: B batch, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.data.noise import COLUMNS, FLIP, ROWS, Draws
from nelbo.errors import ConfigError, boolean, integer


class Augmentation:
    """Training images flipped left to right, and padded and cropped back; validation and test are never touched.

    Args:
        flip: whether half of the images, drawn anew in each epoch, are mirrored.
        pad_crop: pixels of padding on each side, by reflection, before an image of the old size is cropped at random.

    Raises:
        ConfigError: for a value out of range.
    """

    def __init__(self, *, flip: bool, pad_crop: int) -> None:
        self.flip, self.pad_crop = boolean("flip", flip), integer("pad_crop", pad_crop, minimum=0)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """The batch, (B, C, H, W), of whatever type it is."""
        if self.pad_crop:
            rows = _window(draws.uniform(ROWS), images.shape[2], self.pad_crop)
            columns = _window(draws.uniform(COLUMNS), images.shape[3], self.pad_crop)
            examples = torch.arange(len(images), device=images.device)[:, None, None]
            images = images.movedim(1, 3)[examples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
        if self.flip:
            mirrored = (draws.uniform(FLIP) < 0.5)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        return images

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse what images of `shape` (C, H, W) are too small for.

        Raises:
            ConfigError: if the padding is not smaller than the image.
        """
        if self.pad_crop >= min(shape[1:]):
            raise ConfigError(
                "augment.pad_crop", self.pad_crop, f"must be less than the image's {min(shape[1:])} pixels"
            )


def _window(uniform: Tensor, size: int, padding: int) -> Tensor:
    """Where each of `size` pixels is taken from, for a shift of up to `padding` either way, (B, size)."""
    shift = (uniform * (2 * padding + 1)).long() - padding
    where = torch.arange(size, device=uniform.device) + shift[:, None]
    return (size - 1) - ((size - 1) - where.abs()).abs()  # reflected at both edges
