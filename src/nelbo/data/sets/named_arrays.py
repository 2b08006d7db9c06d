"""Named arrays of a file as the splits of a data set.

Shapes: N examples, C H W image, or D in place of C H W for vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import OBSERVED, Examples
from nelbo.data.labels import plain_labels, read_labels
from nelbo.data.memory_map import channels_first
from nelbo.data.sets.known import arrays_of_column, read_column, read_factors
from nelbo.data.sets.masks import arrays_of_masks, hidden
from nelbo.data.sets.names import FACTORS, IMAGES, LABELS, TEST, TRAIN, VALIDATION, WHOLE, roles_of
from nelbo.data.sets.stored_values import FIRST, as_stored, layout_of
from nelbo.errors import DataError

log = logging.getLogger(__name__)
NAMES = "train_images and test_images (val_images is optional), or images, with labels named in the same way"

Parts = tuple[Examples, int, Examples | None, tuple[str, ...]]
"""Training examples, number of them at the end that are for validation, test examples if any, names of classes."""


@dataclass(frozen=True)
class Options:
    """How a file is read.

    Args:
        layout: where the channels of images are, "first" or "last"; None to judge from the shape.
        columns: names of what else is read of each example.
    """

    layout: str | None
    columns: tuple[str, ...]


def parts_of(content: Mapping[str, np.ndarray], path: Path, names: list[str], options: Options) -> Parts:
    """Assemble the splits from named arrays.

    Args:
        content: the arrays.
        path: their file, for messages.
        names: names of the arrays.
        options: how the file is read.

    Raises:
        ConfigError: if a column is missing.
        DataError: if there are no training images, or several arrays have the same role.
    """
    roles = roles_of(names, str(path))
    splits = [split for split in (TRAIN, VALIDATION, TEST, WHOLE) if (split, IMAGES) in roles]
    if splits not in ([WHOLE], [TRAIN], [TRAIN, VALIDATION], [TRAIN, TEST], [TRAIN, VALIDATION, TEST]):
        listed = ", ".join(map(printable, names))
        raise DataError(f"{path}: holds {listed or 'nothing'}; needs {NAMES}")
    of_masks = arrays_of_masks(names, splits, path)
    images, masks = _images(content, path, {split: roles[split, IMAGES] for split in splits}, of_masks, options)
    for split in [split for split in splits if not len(images[split])]:
        _check_may_be_empty(split, roles[split, IMAGES], path)
        splits.remove(split)
    counts = {split: len(images[split]) for split in splits}

    def reads(kind: str) -> dict[str, Callable[[], np.ndarray]]:
        return {split: partial(content.__getitem__, roles[split, kind]) for split in splits if (split, kind) in roles}

    of_columns = {column: arrays_of_column(column, names, counts, path) for column in options.columns}
    used = {roles[key] for key in roles if (key[0], IMAGES) in roles}
    used |= {name for arrays in (*of_columns.values(), of_masks) for name in arrays.values()}
    if unused := [printable(name) for name in names if name not in used]:
        log.warning("%s: arrays that are not used: %s", path, ", ".join(unused))
    plain = {split: plain_labels(read, path) for split, read in reads(LABELS).items()}
    labels, classes = read_labels(dict.fromkeys(splits) | plain, counts, path)
    factors = read_factors(reads(FACTORS), counts, path)
    columns = {
        column: read_column({s: partial(content.__getitem__, arrays[s]) for s in splits}, counts, column, path)
        for column, arrays in of_columns.items()
    }
    parts = {
        split: Examples(
            images[split],
            labels[split],
            factors[split],
            columns={column: values[split] for column, values in {**columns, **masks}.items()},
        )
        for split in splits
    }
    train, test = parts[splits[0]], parts.get(TEST)
    if VALIDATION not in splits:
        return train, 0, test, classes
    return _joined(train, parts[VALIDATION], path), counts[VALIDATION], test, classes


def _images(
    content: Mapping[str, np.ndarray], path: Path, names: Mapping[str, str], masks: Mapping[str, str], options: Options
) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """Return the images of each split, as uint8 or float32, and masks of each split as a column, if there are any.

    Args:
        content: all arrays.
        path: their file, for messages.
        names: the name of the array of each split.
        masks: the name of the mask of each split; empty without masks.
        options: how the file is read.

    Raises:
        DataError: if an array cannot be used.
    """
    arrays = {name: content[name] for name in names.values()}
    channels = {name: layout_of(array.shape, options.layout, path, name) for name, array in arrays.items()}
    observed = dict[str, Tensor]()
    for split, mask in masks.items():
        name = names[split]
        arrays[name], observed[split] = hidden(arrays[name], content[mask], channels[name], mask, path)
        channels[name] = FIRST
    stored = as_stored(arrays, path)
    columns = {OBSERVED: observed} if masks else {}
    return {split: to_tensor(stored[name], channels[name]) for split, name in names.items()}, columns


def _joined(train: Examples, validation: Examples, path: Path) -> Examples:
    """Return training examples followed by those for validation.

    Raises:
        DataError: if they differ in shape.
    """
    parts = (train, validation)
    shapes = [tuple(part.images.shape[1:]) for part in parts]
    if shapes[0] != shapes[1]:
        raise DataError(f"{path}: training images have shape {shapes[0]}, validation images {shapes[1]}")
    images = [part.images for part in parts if isinstance(part.images, Tensor)]
    factors = [part.factors for part in parts if part.factors is not None]
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in train.columns}
    joined = torch.cat(factors) if len(factors) == len(parts) else None
    return Examples(torch.cat(images), torch.cat([part.labels for part in parts]), joined, columns=columns)


def _check_may_be_empty(split: str, name: str, path: Path) -> None:
    """Check that an empty array of images is for validation, which is optional, and log a warning about it.

    Raises:
        DataError: if the array is for another split.
    """
    if split in (TRAIN, WHOLE):
        raise DataError(f"{path}: the data set is empty: {printable(name)} holds no images")
    if split == TEST:
        raise DataError(f"{path}: {printable(name)} holds no images to test on; add some, or remove the array")
    log.warning("%s: %s holds no images, so it is not used", path, printable(name))


def printable(name: str) -> str:
    """Return the name of an array for a message, escaped if it has unprintable characters."""
    return name if name.isprintable() else ascii(name)


def to_tensor(array: np.ndarray, channels: str) -> Tensor:
    """Return an array of images as a tensor (N, C, H, W), or of vectors as (N, D)."""
    return torch.from_numpy(np.ascontiguousarray(channels_first(array, channels)))
