"""Masks of a file of arrays: which pixels of each image were observed.

Shapes: N examples, C H W image, or D in place of C H W for vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import OBSERVED, Examples
from nelbo.data.memory_map import MemoryMap, channels_first
from nelbo.data.sets.known import split_of_column
from nelbo.data.sets.names import WHOLE
from nelbo.errors import DataError


def arrays_of_masks(names: Sequence[str], splits: Sequence[str], path: Path) -> dict[str, str]:
    """Return the name of the array with the mask of each split; none if there are no masks.

    Args:
        names: names of all arrays.
        splits: the splits that have images.
        path: the file, for messages.

    Raises:
        DataError: if only some splits have a mask.
    """
    found = {split: name for name in names if (split := split_of_column(name, OBSERVED)) in splits}
    if not found:
        return {}
    for split in splits:
        if split not in found:
            wanted = OBSERVED if split == WHOLE else f"{split}_{OBSERVED}"
            raise DataError(f"{path}: has the mask {next(iter(found.values()))}, so it needs {wanted} too")
    return {split: found[split] for split in splits}


def hidden(images: np.ndarray, mask: np.ndarray, channels: str, name: str, path: Path) -> tuple[np.ndarray, Tensor]:
    """Return images with 0 in place of unknown pixels, and the mask.

    What an unknown pixel holds, such as NaN, does not matter.

    Args:
        images: (N, H, W), (N, C, H, W), (N, H, W, C) or (N, D).
        mask: bool, or 0 and 1, of the same shape; or (N, H, W) for all channels of an image.
        channels: where the channels of the images are: "first", "last" or "none".
        name: name of the mask, for messages.
        path: the file, for messages.

    Returns:
        The images, with channels first, and the mask, bool, both (N, C, H, W) or (N, D).

    Raises:
        DataError: if the mask has another shape or holds something else, or nothing was observed.
    """
    whole, of_channels = mask.shape == images.shape, mask.shape == (len(images), *_places(images.shape, channels))
    if not (whole or of_channels):
        raise DataError(f"{path}: {name} has shape {mask.shape} for images of shape {images.shape}; needs one of each")
    if mask.dtype.kind != "b" and not (mask.dtype.kind in "iu" and np.isin(mask, (0, 1)).all()):
        raise DataError(f"{path}: {name} holds {mask.dtype}; needs true where a pixel was observed and false elsewhere")
    if not mask.any():
        raise DataError(f"{path}: {name} is false everywhere; needs true where a pixel was observed")
    x = channels_first(images, channels)
    known = channels_first(mask, channels) if whole else mask[:, None]
    observed = torch.from_numpy(np.ascontiguousarray(known.astype(bool))).expand(*x.shape)
    return np.where(known, x, x.dtype.type(0)), observed


def with_masks(examples: Examples, channels: int, place: Path) -> Examples:
    """Return pictures of a store whose last channel is a mask, with the mask as the column `observed`.

    Args:
        examples: with C + 1 channels.
        channels: C.
        place: the folder, for messages.

    Raises:
        DataError: if every pixel of all pictures was observed, or none.
    """
    images = examples.images
    assert isinstance(images, MemoryMap)
    shown, observed = images.split(channels)
    if observed.all() or not observed.any():
        which = "no picture has transparent pixels" if observed.all() else "all pixels of all pictures are transparent"
        raise DataError(f"{place}: {which}, which data.alpha=mask is for; leave it out")
    return replace(examples, images=shown, columns={OBSERVED: observed.expand(-1, channels, -1, -1)})


def _places(shape: tuple[int, ...], channels: str) -> tuple[int, ...]:
    """Return height and width of images, or the size of vectors."""
    return shape[1:-1] if channels == "last" else shape[2:] if len(shape) == 4 else shape[1:]
