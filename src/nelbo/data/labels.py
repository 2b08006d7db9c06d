"""Labels as people store them, to one class an image. Images train without any, so what is none is left out, and said.

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

from nelbo.data.arrays import Arrays, unlabelled
from nelbo.errors import DataError, first_line

log = logging.getLogger(__name__)
WITHOUT = "probe, knn, silhouette, the classifier of fid, kid and prdc, and colours by class"
LEFT_OUT = f"the images train without labels; left out are {WITHOUT}"
LARGEST = torch.iinfo(torch.int64).max


def with_classes(arrays: Arrays, name: str) -> Arrays:
    """The set with one class an image, or without labels: what a function of one's own gives may be neither.

    None is no labels; tensors of any type and on any device, arrays and lists are read as those of a file.

    Raises:
        DataError: if labels are none of these, or there are more or fewer of them than images.
    """
    parts = {"train": arrays.train, "test": arrays.test}
    if all(_are_classes(part.labels, len(part.images)) for part in parts.values()):
        return arrays
    stored = {key: _given(part.labels, f"{name}: its {key} labels") for key, part in parts.items()}
    labels, _ = read_labels(stored, {key: len(part.images) for key, part in parts.items()}, name)
    train, test = (replace(part, labels=labels[key]) for key, part in parts.items())
    return replace(arrays, train=train, test=test)


def read_labels(
    stored: Mapping[str, np.ndarray | None], counts: Mapping[str, int], path: Path | str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Labels of the parts of a set, (N,) int64 each, and the names of classes that are texts.

    Whole numbers of any type are taken as they are, text and one-hot rows as classes; anything else is left out.

    Args:
        stored: what the file has, by part; None where it has none.
        counts: images of every part.
        path: the file, or what else to call the set.

    Raises:
        DataError: if there are more or fewer labels than images, for they could be anybody's.
    """
    arrays = {part: array for part, array in stored.items() if array is not None}
    for part, array in arrays.items():
        if array.ndim == 0 or len(array) != counts[part]:
            raise DataError(f"{path}: has labels of shape {array.shape} for {counts[part]} images; needs one for each")
    columns = {part: _column(array) for part, array in arrays.items()}
    none = {part: unlabelled(count) for part, count in counts.items()}
    texts = np.concatenate([column for column in columns.values() if column.dtype.kind == "U"] or [np.empty(0, "U1")])
    names = np.unique(texts)
    for part, column in columns.items():
        if reason := _reason(column, names, len(texts)):
            log.warning("%s: labels of shape %s %s: %s", path, arrays[part].shape, reason, LEFT_OUT)
            return none, ()
    return none | {part: _classes(column, names) for part, column in columns.items()}, tuple(map(str, names))


def plain_labels(load: Callable[[], np.ndarray], path: Path) -> np.ndarray | None:
    """Labels from a file of numpy; None, which is said, if they are pickled objects, which are never opened."""
    try:
        return load()
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        how = "save them as numbers, or as text: np.array(labels, dtype=str)"
        log.warning("%s: labels are pickled objects, which are not opened; %s. Now %s", path, how, LEFT_OUT)
        return None


def _are_classes(labels: object, count: int) -> bool:
    """Whether labels are what batches are made of: (count,) int64 in memory."""
    if not isinstance(labels, Tensor):
        return False
    return labels.dtype == torch.int64 and labels.device.type == "cpu" and labels.shape == (count,)


def _given(labels: object, place: str) -> np.ndarray | None:
    """Labels of a function of one's own as an array of numpy; None if there are none.

    Raises:
        DataError: if they are no array.
    """
    if labels is None:
        return None
    try:
        if isinstance(labels, Tensor):
            plain = labels.detach().cpu()
            return (plain.double() if plain.is_floating_point() else plain).numpy()  # numpy knows no bfloat16
        return np.asarray(labels)
    except (TypeError, ValueError, RuntimeError) as error:  # sparse tensors, lists of lists of different lengths
        kind = type(labels).__name__
        raise DataError(
            f"{place} are a {kind} that is no array ({first_line(error)}); give one class an image"
        ) from error


def _column(array: np.ndarray) -> np.ndarray:
    """(N, 1) as (N,), and bytes as text."""
    flat = array.reshape(len(array)) if array.ndim > 1 and array.size == len(array) else array
    return np.char.decode(flat, errors="replace") if flat.dtype.kind == "S" else flat


def _reason(column: np.ndarray, names: np.ndarray, texts: int) -> str:
    """Why labels are no classes; empty if they are."""
    kind = column.dtype.kind
    if texts and kind != "U":
        return "are numbers, and those of another part text"
    if kind == "U" and column.ndim == 1:
        return f"are {len(names)} different texts for {texts} images" if 2 * len(names) > texts else ""
    if kind not in "biuf":
        return f"and type {column.dtype} are no numbers"
    if column.ndim == 1:
        if kind == "f" and not (np.isfinite(column).all() and (column == np.round(column)).all()):
            return "are no whole numbers"
        return "are too large" if column.size and np.abs(column.astype(float)).max() >= LARGEST else ""
    one_hot = column.ndim == 2 and ((column == 0) | (column == 1)).all() and (column.sum(axis=1) == 1).all()
    return "" if one_hot else "are not one class an image"


def _classes(column: np.ndarray, names: np.ndarray) -> Tensor:
    if column.dtype.kind == "U":
        return torch.from_numpy(np.searchsorted(names, column).astype(np.int64))
    return torch.from_numpy((column if column.ndim == 1 else column.argmax(axis=1)).astype(np.int64))
