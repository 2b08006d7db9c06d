"""What a file of arrays says of each example beside its label: factors of variation, and columns by name.

Shapes: N examples, F factors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import FACTORS, LABEL, OBSERVED
from nelbo.data.reals import refuse_not_finite
from nelbo.data.sets.names import SPLITS, WHOLE, WORD
from nelbo.errors import ConfigError, DataError

log = logging.getLogger(__name__)
NEED_FACTORS = "metrics=[disentanglement] and conditioning=factors"


def column_names(columns: object) -> list[str]:
    """Return the option `columns` as a list; None is none.

    Raises:
        ConfigError: if it is something else, or a name is used for something else.
    """
    names = [] if columns is None else columns
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError("columns", columns, "must be a list of names, such as [age,site], or null")
    for name in names:
        if name in (LABEL, FACTORS, OBSERVED) or not WORD.findall(name):
            raise ConfigError("columns", name, "is no name of a column; labels, factors and masks are read without it")
    return list(names)


def split_of_column(array: str, column: str) -> str | None:
    """Return which split of a column an array holds, judged from its name; None if it is another array.

    Example:
        >>> split_of_column("age_train", "age"), split_of_column("age", "age"), split_of_column("page", "age")
        ('train', 'whole', None)
    """
    words = [word.lower() for word in WORD.findall(array)]
    splits = [SPLITS[word] for word in words if word in SPLITS]
    rest = [word for word in words if word not in SPLITS]
    if len(splits) > 1 or rest != [word.lower() for word in WORD.findall(column)]:
        return None
    return (splits or [WHOLE])[0]


def arrays_of_column(column: str, arrays: Iterable[str], counts: Mapping[str, int], path: Path) -> dict[str, str]:
    """Return the name of the array of each split that holds a column.

    Args:
        column: its name.
        arrays: names of all arrays.
        counts: number of examples of each split.
        path: the file, for messages.

    Raises:
        ConfigError: if a split has none.
    """
    names = list(arrays)
    found = {split: name for name in names if (split := split_of_column(name, column)) is not None}
    for split in counts:
        if split not in found:
            wanted = column if split == WHOLE else f"{split}_{column}"
            raise ConfigError("columns", column, f"needs an array {wanted} in {path}, which holds {', '.join(names)}")
    return {split: found[split] for split in counts}


def read_column(
    load: Mapping[str, Callable[[], np.ndarray]], counts: Mapping[str, int], column: str, path: Path
) -> dict[str, Tensor]:
    """Read a column: whole numbers, booleans and texts as classes, int64, and floats as numbers, float32.

    Args:
        load: reads the array of each split.
        counts: number of examples of each split.
        column: its name, for messages.
        path: the file, for messages.

    Raises:
        DataError: if an array has another length, holds other things, or holds NaN or infinity.
    """
    arrays = {split: _read(read, path, column) for split, read in load.items()}
    for split, array in arrays.items():
        if array.ndim == 0 or len(array) != counts[split]:
            raise DataError(f"{path}: {column} has shape {array.shape} for {counts[split]} examples; needs one of each")
    kinds = {array.dtype.kind for array in arrays.values()}
    if kinds <= set("SU"):
        texts = {split: array.astype("U") for split, array in arrays.items()}
        names = np.unique(np.concatenate([array.ravel() for array in texts.values()]))
        return {split: torch.from_numpy(np.searchsorted(names, array)) for split, array in texts.items()}
    if kinds <= set("iub"):
        return {split: torch.from_numpy(array.astype(np.int64)) for split, array in arrays.items()}
    if not kinds <= set("fiub"):
        types = ", ".join(sorted({str(array.dtype) for array in arrays.values()}))
        raise DataError(f"{path}: {column} holds {types}; needs whole numbers, floats or texts")
    for array in arrays.values():
        refuse_not_finite(array.astype(np.float64), str(path), column)
    return {split: torch.from_numpy(array.astype(np.float32)) for split, array in arrays.items()}


def _read(load: Callable[[], np.ndarray], path: Path, name: str) -> np.ndarray:
    try:
        return load()
    except ValueError as error:
        if "Object arrays" not in str(error):
            raise
        raise DataError(f"{path}: {name} holds pickled objects, which are not read; save numbers or texts") from error


def read_factors(
    load: Mapping[str, Callable[[], np.ndarray]], counts: Mapping[str, int], path: Path
) -> dict[str, Tensor | None]:
    """Read factors of variation, (N, F) or (N,), whole numbers; others are left out with a warning.

    Args:
        load: reads the array of each split that has one.
        counts: number of examples of each split.
        path: the file, for messages.

    Raises:
        DataError: if the number of rows is not that of the examples.
    """
    none: dict[str, Tensor | None] = dict.fromkeys(counts)
    if not load:
        return none
    arrays = {split: _read(read, path, "factors") for split, read in load.items()}
    for split, array in arrays.items():
        if array.ndim == 0 or len(array) != counts[split]:
            problem = f"has factors of shape {array.shape} for {counts[split]} examples"
            raise DataError(f"{path}: {problem}; needs one row per example")
    problem = ""
    if missing := [split for split in counts if split not in arrays]:
        problem = f"are not known of its {' and '.join(missing)} examples"
    elif len({array.shape[1:] for array in arrays.values()}) > 1 or any(array.ndim > 2 for array in arrays.values()):
        problem = f"have shapes {', '.join(str(array.shape) for array in arrays.values())}, not (N, F)"
    elif not all(_are_whole(array) for array in arrays.values()):
        problem = "are not whole numbers"
    if problem:
        log.warning("%s: factors %s, so they are left out; they are for %s", path, problem, NEED_FACTORS)
        return none
    return {split: torch.from_numpy(array.astype(np.int64).reshape(len(array), -1)) for split, array in arrays.items()}


def _are_whole(array: np.ndarray) -> bool:
    if array.dtype.kind == "f":
        return bool(np.isfinite(array).all() and (array == np.round(array)).all())
    return array.dtype.kind in "iub"
