"""Random augmentation of training images: flips and shifts that depend on (seed, epoch, index) alone.

Shapes: B batch, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.data.noise import COLUMNS, FLIP, ROWS, Draws
from nelbo.errors import ConfigError, boolean, integer


class Augmentation:
    """Random horizontal flips and shifts of training images; validation and test images are never augmented.

    Args:
        flip: whether each image is mirrored with probability 1/2, drawn in each epoch.
        pad_crop: pixels of reflection padding on each side, from which an image of the original size is cropped at a
            random position.

    Raises:
        ConfigError: for a value out of range.

    Example:
        >>> from nelbo.data.noise import Draws
        >>> images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> Augmentation(flip=True, pad_crop=1)(images, Draws(seed=0, epoch=0, indices=torch.arange(2))).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, *, flip: bool, pad_crop: int) -> None:
        self.flip, self.pad_crop = boolean("flip", flip), integer("pad_crop", pad_crop, minimum=0)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Augment a batch.

        Args:
            images: (B, C, H, W), of any dtype.
            draws: random numbers of the batch's examples.
        """
        if self.pad_crop:
            rows = _window(draws.uniform(ROWS), images.shape[2], self.pad_crop)
            columns = _window(draws.uniform(COLUMNS), images.shape[3], self.pad_crop)
            examples = torch.arange(len(images), device=images.device)[:, None, None]
            images = images.movedim(1, 3)[examples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
        if self.flip:
            mirrored = (draws.uniform(FLIP) < 0.5)[:, None, None, None]
            images = torch.where(mirrored, images.flip(-1), images)
        return images

    def refuse_masks(self) -> None:
        """Check that nothing is augmented, because masks of observed pixels are not moved with their images.

        Raises:
            ConfigError: if something is.
        """
        if self.flip or self.pad_crop:
            key, value = ("augment.flip", True) if self.flip else ("augment.pad_crop", self.pad_crop)
            raise ConfigError(key, value, "does not move masks of observed pixels with their images; leave it out")

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that examples of `shape`, (C, H, W) or (D,), can be augmented.

        Raises:
            ConfigError: if the padding is not smaller than the image, or they are vectors.
        """
        if len(shape) != 3:
            key, value = ("augment.flip", True) if self.flip else ("augment.pad_crop", self.pad_crop)
            if value:
                raise ConfigError(key, value, f"is for images, and the data are vectors of {shape[0]} numbers")
            return
        if self.pad_crop >= min(shape[1:]):
            raise ConfigError(
                "augment.pad_crop", self.pad_crop, f"must be less than the image's {min(shape[1:])} pixels"
            )


def _window(uniform: Tensor, size: int, padding: int) -> Tensor:
    """Return the source position of each pixel along one axis, (B, size), for shifts of -padding .. padding pixels.

    Args:
        uniform: one number in [0, 1) for each image, (B,).
        size: number of pixels along the axis.
        padding: the largest shift.
    """
    shift = (uniform * (2 * padding + 1)).long() - padding
    positions = torch.arange(size, device=uniform.device) + shift[:, None]
    return (size - 1) - ((size - 1) - positions.abs()).abs()  # reflected at both edges
