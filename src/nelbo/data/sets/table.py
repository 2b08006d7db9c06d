"""The data set `data=table`: rows of a CSV or Parquet file with numbers, categories and counts, some of them missing.

Shapes: N rows, D entries of an encoded row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nelbo.data.arrays import OBSERVED, UNLABELLED, Arrays, Examples, held_out, random_split, unlabelled
from nelbo.data.sets.table_columns import (
    BINARY,
    CATEGORICAL,
    CONSTANT,
    IGNORE,
    Columns,
    Description,
    describe,
    describe_column,
    encode,
    known,
    numbers,
)
from nelbo.data.sets.table_files import columns_of, read_frame
from nelbo.errors import ConfigError, DataError


def table(
    path: str,
    test_path: str | None,
    columns: Mapping[str, str] | None,
    label: str | None,
    test_size: float,
    validation_size: float,
    seed: int,
) -> Arrays:
    """Read a table.

    x has a standardised number for each numeric column, by the training rows, 0 or 1 for a binary column, the count
    itself for a count, and a one-hot vector for a categorical column. Missing values are 0, and `observed` tells them
    from those that are known. The table is split at random, unless there is a second file with the test rows.

    Args:
        path: a .csv or .parquet file; or `sklearn:` and one of breast_cancer, diabetes and wine.
        test_path: a file of the same columns with the rows to test on; None to hold some out.
        columns: the kind of columns by name: numeric, binary, categorical, count, or ignore. The kinds of others are
            inferred.
        label: a column that is no part of x but the label of each row, which models can be conditioned on; or None.
        test_size: number of test rows, or their share below 1; unused with `test_path`.
        validation_size: number of validation rows, or their share of the others below 1; 0 for none.
        seed: seed of the random choice.

    Raises:
        ConfigError: if a file does not exist, or a column or its kind does not fit it.
        DataError: if the content cannot be used.

    Example:
        >>> arrays = table("sklearn:wine", None, None, "target", test_size=0.2, validation_size=0.1, seed=0)
        >>> arrays.shape, len(arrays.train), arrays.validation, len(arrays.test), arrays.classes
        ((13,), 142, 14, 36, ('class_0', 'class_1', 'class_2'))
    """
    given = checked_kinds(columns)
    content, trained = read_columns(path, test_path)
    rows, test, validation = split(content, trained, test_size, validation_size, seed)
    training = rows[: len(rows) - validation].numpy()
    place = str(path)
    label_column = None if label is None else content.get(label)
    if label is not None and label_column is None:
        raise ConfigError("label", label, f"is not a column of {path}, which has {', '.join(content)}")
    features = {name: column for name, column in content.items() if name != label}
    kinds = {name: kind for name, kind in given.items() if name != label}
    descriptions = describe(features, training, kinds, place)
    x, observed = encode(features, descriptions, place)
    labels, more, of_label = unlabelled(len(x)), dict[str, Tensor](), None
    if label is not None and label_column is not None:
        of_label = describe_column(label, label_column, training, given.get(label), place)
        labels, more = label_of(label_column, of_label)
    examples = Examples(x, labels, columns={OBSERVED: observed, **more})
    classes = tuple(map(str, of_label["categories"])) if of_label and "categories" in of_label else ()
    return Arrays(
        examples.take(rows),
        examples.take(test),
        validation,
        classes,
        table={"columns": descriptions, "label": of_label},
    )


def checked_kinds(columns: object) -> Mapping[str, str]:
    """Return the given kinds of columns by name.

    Raises:
        ConfigError: if they are no mapping.
    """
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise ConfigError("columns", columns, "must be the kinds of columns by name, such as {age: numeric}")
    return {str(name): kind for name, kind in columns.items()}


def read_columns(path: str, test_path: str | None) -> tuple[Columns, int]:
    """Return the columns of one or two files, one below the other, and how many rows are of the first.

    Raises:
        DataError: if the second has other columns, or values of another type.
    """
    first = columns_of(read_frame(path), str(path))
    trained = len(next(iter(first.values())))
    if test_path is None:
        return first, trained
    second = columns_of(read_frame(test_path, "test_path"), str(test_path))
    if missing := [name for name in first if name not in second]:
        raise DataError(f"{test_path}: lacks the column {missing[0]} of {path}")
    joined = {}
    for name, column in first.items():
        if len({part.dtype.kind for part in (column, second[name]) if known(part).any()}) > 1:
            raise DataError(f"{test_path}: column {name} has values of another type than in {path}")
        joined[name] = np.concatenate([column, second[name]])
    return joined, trained


def split(
    content: Columns, trained: int, test_size: float, validation_size: float, seed: int
) -> tuple[Tensor, Tensor, int]:
    """Return the positions of the rows for training, of which the last are for validation, those to test on, and V.

    Args:
        content: the columns.
        trained: number of rows of the first file.
        test_size: number or share of test rows, if there is no second file.
        validation_size: number or share of validation rows.
        seed: of the choice.

    Returns:
        Rows (N - V + V,), test rows, and V, the number of validation rows at the end of the former.

    Raises:
        ConfigError: if a size leaves no rows.
    """
    total = len(next(iter(content.values())))
    if total > trained:
        rest, test = torch.arange(trained), torch.arange(trained, total)
    else:
        count = held_out("test_size", test_size, total)
        if not count:
            raise ConfigError("test_size", test_size, f"must leave at least one of the {total} rows to test on")
        test, rest = random_split(total, count, seed)
    validation = held_out("validation_size", validation_size, len(rest))
    chosen, others = random_split(len(rest), validation, seed + 1)
    return torch.cat([rest[others], rest[chosen]]), test, validation


def label_of(column: np.ndarray, description: Description) -> tuple[Tensor, dict[str, Tensor]]:
    """Return labels (N,), and what is known of rows by name, of the column that is the label.

    Two values and categories are classes; other numbers are numbers, (N, 1), under the column's name.

    Raises:
        ConfigError: if all labels are equal, or a number is missing.
    """
    name, kind = description["name"], description["kind"]
    there = known(column)
    if kind in (CONSTANT, IGNORE):
        raise ConfigError("label", name, "has the same value in all rows")
    if kind in (BINARY, CATEGORICAL):
        labels = torch.full((len(column),), UNLABELLED)
        labels[torch.from_numpy(there)] = torch.from_numpy(numbers(column[there], description["categories"], name))
        return labels, {}
    if not there.all():
        raise ConfigError("label", name, f"is missing in {int((~there).sum())} rows; its numbers must be known")
    return unlabelled(len(column)), {name: torch.from_numpy(column).float().unsqueeze(1)}


def conditions(columns: Columns, label: Mapping[str, Any] | None, place: str) -> dict[str, Tensor]:
    """Return what a model that is conditioned on the label is given of other rows, by name, (N, ...) each.

    Args:
        columns: of the rows, which may lack the label.
        label: the description of the label's column; None if there is none.
        place: what the table is called in messages.

    Raises:
        DataError: if the label is a number that is missing.
    """
    if label is None:
        return {}
    name, total = label["name"], len(next(iter(columns.values())))
    column = columns.get(name)
    if "categories" in label:
        if column is None:
            return {"label": unlabelled(total)}
        labels = torch.full((total,), UNLABELLED)
        there = known(column)
        labels[torch.from_numpy(there)] = torch.from_numpy(numbers(column[there], label["categories"], place))
        return {"label": labels}
    if column is None or not known(column).all():
        raise DataError(f"{place}: column {name}, on which the model is conditioned, is missing in some rows")
    return {name: torch.from_numpy(column).float().unsqueeze(1)}
