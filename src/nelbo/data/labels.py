"""Conversion of stored labels to one class per image.

Training needs no labels, so labels that cannot be converted are dropped with a warning.

Shapes: N images, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import LABEL, UNLABELLED, Arrays, Examples, unlabelled
from nelbo.errors import ConfigError, DataError, first_line

log = logging.getLogger(__name__)
NEED_LABELS = "probe, knn, silhouette, the classifier of fid, kid and prdc, and colours by class"
LEFT_OUT = f"the images are used without labels; what needs labels is left out: {NEED_LABELS}"
LARGEST = torch.iinfo(torch.int64).max


def with_classes(arrays: Arrays, name: str) -> Arrays:
    """Return a data set whose labels are int64 classes, or `UNLABELLED`.

    A user's data function may return other labels: None, tensors of any type on any device, arrays, or lists. They are
    converted as labels from files are.

    Args:
        arrays: the data set.
        name: its name, for messages.

    Raises:
        DataError: if labels are of another type, or their number is not that of the images.
    """
    parts = {"train": arrays.train, "test": arrays.test}
    if all(_are_classes(part.labels, len(part.images)) for part in parts.values()):
        return arrays
    stored = {key: _to_numpy(part.labels, f"{name}: its {key} labels") for key, part in parts.items()}
    labels, _ = read_labels(stored, {key: len(part.images) for key, part in parts.items()}, name)
    train, test = (replace(part, labels=labels[key]) for key, part in parts.items())
    return replace(arrays, train=train, test=test)


def keep_labels(examples: Examples, count: int, seed: int) -> Examples:
    """Return the same examples with the labels of `count` of them; the others are `UNLABELLED`.

    Which are kept is random, with as many of each class as possible: 100 of ten classes are ten of each, if every class
    has ten.

    Args:
        examples: of which at least `count` have a label.
        count: number of labels that are kept.
        seed: seed of the choice.

    Raises:
        ConfigError: if fewer have a label, or `count` is less than the number of classes.
    """
    labels = examples.known(LABEL)
    assert labels is not None
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order] >= 0]
    classes, own = labels[order].unique(return_inverse=True)
    if not len(classes) <= count <= len(order):
        hint = f"must be from {len(classes)}, the number of classes, to {len(order)}, the number of images with a label"
        raise ConfigError("labelled", count, hint if len(order) else "no training image has a label")
    # The first of every class, then the second of every class, ...
    rank = torch.empty_like(own)
    for number in range(len(classes)):
        (places,) = torch.where(own == number)
        rank[places] = torch.arange(len(places))
    chosen = order[torch.argsort(rank, stable=True)[:count]]
    rows = chosen if examples.indices is None else examples.indices[chosen]
    whole = torch.full_like(examples.labels, UNLABELLED)
    whole[rows] = examples.labels[rows]
    return replace(examples, labels=whole)


def read_labels(
    stored: Mapping[str, np.ndarray | None], counts: Mapping[str, int], path: Path | str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Convert stored labels to classes.

    Whole numbers of any type are kept as they are. Texts and one-hot rows become class numbers. Anything else is
    dropped with a warning, for all parts.

    Args:
        stored: labels of each part of the data set, as stored; None if there are none.
        counts: number of images of each part.
        path: the file, or a name of the data set, for messages.

    Returns:
        Labels (N,), int64, of each part, and the names of the classes if the labels are texts.

    Raises:
        DataError: if the number of labels is not that of the images, so that they cannot be matched.
    """
    arrays = {part: array for part, array in stored.items() if array is not None}
    for part, array in arrays.items():
        if array.ndim == 0 or len(array) != counts[part]:
            raise DataError(f"{path}: has labels of shape {array.shape} for {counts[part]} images; needs one per image")
    columns = {part: _column(array) for part, array in arrays.items()}
    none = {part: unlabelled(count) for part, count in counts.items()}
    texts = np.concatenate([column for column in columns.values() if column.dtype.kind == "U"] or [np.empty(0, "U1")])
    names = np.unique(texts)
    for part, column in columns.items():
        if problem := _problem(column, names, len(texts)):
            log.warning("%s: labels of shape %s %s: %s", path, arrays[part].shape, problem, LEFT_OUT)
            return none, ()
    return none | {part: _classes(column, names) for part, column in columns.items()}, tuple(map(str, names))


def plain_labels(load: Callable[[], np.ndarray], path: Path) -> np.ndarray | None:
    """Load labels from a NumPy file; return None, with a warning, if they are pickled objects, which are never read.

    Args:
        load: reads the labels, without allowing pickles.
        path: the file, for the warning.
    """
    try:
        return load()
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        hint = "save them as numbers, or as text: np.array(labels, dtype=str)"
        log.warning("%s: labels are pickled objects, which are not read; %s. Until then %s", path, hint, LEFT_OUT)
        return None


def _are_classes(labels: object, count: int) -> bool:
    """Return whether labels can be used without conversion: a tensor (count,), int64, on the CPU."""
    if not isinstance(labels, Tensor):
        return False
    return labels.dtype == torch.int64 and labels.device.type == "cpu" and labels.shape == (count,)


def _to_numpy(labels: object, description: str) -> np.ndarray | None:
    """Convert the labels that a user's data function returned to a NumPy array; None stays None.

    Raises:
        DataError: if they cannot be converted.
    """
    if labels is None:
        return None
    try:
        if isinstance(labels, Tensor):
            plain = labels.detach().cpu()
            return (plain.double() if plain.is_floating_point() else plain).numpy()  # NumPy has no bfloat16
        return np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # sparse tensors, lists of lists of different lengths
        kind = type(labels).__name__
        problem = f"{description} are a {kind} that is not an array ({first_line(error)})"
        raise DataError(f"{problem}; return one class per image") from error


def _column(array: np.ndarray) -> np.ndarray:
    """Return (N, 1) as (N,), and bytes as text."""
    flat = array.reshape(len(array)) if array.ndim > 1 and array.size == len(array) else array
    return np.char.decode(flat, errors="replace") if flat.dtype.kind == "S" else flat


def _problem(column: np.ndarray, names: np.ndarray, texts: int) -> str:
    """Return why labels are not classes; empty if they are.

    Args:
        column: labels of one part.
        names: the different texts among the labels of all parts.
        texts: number of labels of all parts that are texts.
    """
    kind = column.dtype.kind
    if texts and kind != "U":
        return "are numbers, but labels of another part are text"
    if kind == "U" and column.ndim == 1:
        return f"are {len(names)} different texts for {texts} images" if 2 * len(names) > texts else ""
    if kind not in "biuf":
        return f"and type {column.dtype} are not numbers"
    if column.ndim == 1:
        if kind == "f" and not (np.isfinite(column).all() and (column == np.round(column)).all()):
            return "are not whole numbers"
        return "are too large" if column.size and np.abs(column.astype(float)).max() >= LARGEST else ""
    one_hot = column.ndim == 2 and ((column == 0) | (column == 1)).all() and (column.sum(axis=1) == 1).all()
    return "" if one_hot else "are not one class per image"


def _classes(column: np.ndarray, names: np.ndarray) -> Tensor:
    if column.dtype.kind == "U":
        return torch.from_numpy(np.searchsorted(names, column).astype(np.int64))
    return torch.from_numpy((column if column.ndim == 1 else column.argmax(axis=1)).astype(np.int64))
