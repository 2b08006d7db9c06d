"""Columns of a table: what kind each is, and how rows become numbers and back.

A column is a NumPy array: of float64 with NaN where a value is missing, or of objects, texts or None. Its description
is a plain mapping, which checkpoints hold:

    name, kind   `numeric`, `binary`, `categorical`, `count` or `constant`
    values       `text`, `truth`, `whole` or `number`: what the values are, as they are written back
    mean, sd     of a numeric column, over the training rows in which it is known
    categories   of a binary or categorical column, in the order of their numbers; of a constant one, its only value

Shapes: N rows, D entries of an encoded row: one for each column, but one for each category of a categorical one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nelbo.errors import ConfigError, DataError, choice

NUMERIC, BINARY, CATEGORICAL, COUNT, CONSTANT, IGNORE = (
    *("numeric", "binary", "categorical", "count"),
    *("constant", "ignore"),
)
GIVEN_KINDS = (NUMERIC, BINARY, CATEGORICAL, COUNT, IGNORE)
"""The kinds that `data.columns` may name."""

FEW_WHOLE_NUMBERS = 10
"""Whole numbers with at most this many different values are taken for categories."""

MOST_CATEGORIES = 100
"""Texts with more different values are taken for names or identifiers, unless the column is said to be categorical."""

Columns = Mapping[str, np.ndarray]
Description = dict[str, Any]


def known(column: np.ndarray) -> np.ndarray:
    """Return which values of a column are not missing, (N,)."""
    if column.dtype.kind == "f":
        finite: np.ndarray = np.isfinite(column)
        return finite
    return np.array([value is not None for value in column], dtype=bool)


def describe(columns: Columns, training: np.ndarray, given: Mapping[str, str], place: str) -> list[Description]:
    """Return the description of every column that is used, in their order.

    Categories are those of all rows, so that the rows that are tested have no other ones; means and standard deviations
    are those of training rows alone.

    Args:
        columns: by name, (N,) each.
        training: positions of the training rows.
        given: kinds of columns by name; the others are inferred.
        place: what the table is called in messages.

    Raises:
        ConfigError: if a given kind does not suit a column, or a column has no kind that can be inferred.
        DataError: if a column has no value at all, or no column is left.
    """
    for name, kind in given.items():
        if name not in columns:
            hint = f"is not a column of {place}, which has {', '.join(columns)}"
            raise ConfigError("columns", name, hint)
        choice(f"columns.{name}", kind, GIVEN_KINDS)
    kept = {name: column for name, column in columns.items() if given.get(name) != IGNORE}
    described = [describe_column(name, kept[name], training, given.get(name), place) for name in kept]
    if all(column["kind"] == CONSTANT for column in described):
        raise DataError(f"{place}: has no column whose values differ")
    return described


def describe_column(name: str, column: np.ndarray, training: np.ndarray, given: str | None, place: str) -> Description:
    """Return the description of one column; see `describe`."""
    present = column[known(column)]
    if not len(present):
        hint = f"data.columns={{{name}: {IGNORE}}}"
        raise DataError(f"{place}: column {name} has no values; leave it out: {hint}")
    if "${" in name or any("${" in str(value) for value in present if isinstance(value, str)):
        raise DataError(f"{place}: column {name} contains ${{, which a config would take for a reference; rename it")
    values = values_of(present)
    different = sorted(set(present.tolist()))
    if len(different) == 1:
        return {"name": name, "kind": CONSTANT, "values": values, "categories": [plain(different[0], values)]}
    kind = given or inferred(name, values, different, place)
    if kind in (BINARY, CATEGORICAL):
        if kind == BINARY and len(different) > 2:
            hint = f"is not binary: it has {len(different)} different values"
            raise ConfigError(f"columns.{name}", kind, hint)
        categories = [plain(value, values) for value in different]
        return {"name": name, "kind": kind, "values": values, "categories": categories}
    if values in ("text", "truth"):
        raise ConfigError(f"columns.{name}", kind, f"needs numbers, and has {values_in_words(different)}")
    if kind == COUNT:
        if values != "whole" or different[0] < 0:
            hint = f"needs whole numbers from 0 up, and has {values_in_words(different)}"
            raise ConfigError(f"columns.{name}", kind, hint)
        return {"name": name, "kind": kind, "values": values}
    trained = column[training]
    trained = trained[known(trained)]
    if not len(trained):
        raise DataError(f"{place}: column {name} has no values in the training rows")
    mean, deviation = float(f"{trained.mean():.12g}"), float(f"{trained.std():.12g}")  # the same on all machines
    return {"name": name, "kind": kind, "values": values, "mean": mean, "sd": deviation or 1.0}


def inferred(name: str, values: str, different: Sequence[Any], place: str) -> str:
    """Return the kind of a column of at least two different values.

    Two values are binary; texts are categories, and so are whole numbers of at most ten different values; other whole
    numbers are counts if none is negative; all other numbers are numeric.

    Raises:
        ConfigError: for texts of very many different values.
    """
    if len(different) == 2:
        return BINARY
    if values == "text":
        if len(different) > MOST_CATEGORIES:
            hint = f"of {place} has {len(different)} different texts; give its kind: data.columns={{{name}: {IGNORE}}}"
            raise ConfigError("columns", name, f"{hint}, or categorical")
        return CATEGORICAL
    if values == "whole":
        if len(different) <= FEW_WHOLE_NUMBERS:
            return CATEGORICAL
        return COUNT if different[0] >= 0 else NUMERIC
    return NUMERIC


def values_of(present: np.ndarray) -> str:
    """Return what the values of a column are: `text`, `truth`, `whole` or `number`."""
    if present.dtype.kind == "f":
        return "whole" if (present == np.round(present)).all() and np.abs(present).max() < 2**53 else "number"
    return "truth" if all(isinstance(value, bool) for value in present) else "text"


def plain(value: Any, values: str) -> Any:
    """Return one value as configs hold it: text, a truth value, a whole number or a number."""
    return {"text": str, "truth": bool, "whole": int, "number": float}[values](value)


def values_in_words(different: Sequence[Any]) -> str:
    """Return some of the values of a column, for messages."""
    return ", ".join(str(value)[:20] for value in different[:3]) + (", ..." if len(different) > 3 else "")


def width(description: Description) -> int:
    """Return the number of entries of a column in an encoded row."""
    return {CATEGORICAL: len(description.get("categories", ())), CONSTANT: 0}.get(description["kind"], 1)


def encode(columns: Columns, descriptions: Sequence[Description], place: str) -> tuple[Tensor, Tensor]:
    """Return rows as a model is given them, and which of their entries are known.

    Numbers are standardised; counts stay as they are; of two values the second is 1; categories are one-hot. What is
    missing is 0.

    Args:
        columns: by name, (N,) each; one that is lacking is missing in all rows.
        descriptions: of the columns.
        place: what the table is called in messages.

    Returns:
        x, (N, D), float32, and observed, (N, D), bool.

    Raises:
        DataError: for a value that a column cannot have.
    """
    total = len(next(iter(columns.values())))
    parts, masks = [], []
    for column in descriptions:
        if column["kind"] == CONSTANT:
            continue
        stored = columns.get(column["name"])
        there = np.zeros(total, dtype=bool) if stored is None else known(stored)
        entries = np.zeros((total, width(column)), dtype=np.float64)
        if stored is not None and there.any():
            entries[there] = encoded(stored[there], column, place)
        parts.append(torch.from_numpy(entries).float())
        masks.append(torch.from_numpy(there).unsqueeze(1).expand(-1, width(column)))
    return torch.cat(parts, dim=1), torch.cat(masks, dim=1)


def encoded(present: np.ndarray, column: Description, place: str) -> np.ndarray:
    """Return the entries of the known values of a column, (N, width)."""
    kind = column["kind"]
    if kind in (BINARY, CATEGORICAL):
        number = numbers(present, column["categories"], f"{place}: column {column['name']}")
        if kind == BINARY:
            return number[:, None].astype(np.float64)
        one_hot: np.ndarray = np.eye(width(column))[number]
        return one_hot
    if present.dtype.kind != "f":
        raise DataError(f"{place}: column {column['name']} has {present[0]!r}, where the model was trained on numbers")
    if kind == COUNT:
        if (wrong := present[(present < 0) | (present != np.round(present))]).size:
            raise DataError(f"{place}: column {column['name']} has {wrong[0]:g}, which is no count")
        return present[:, None]
    scaled: np.ndarray = (present[:, None] - column["mean"]) / column["sd"]
    return scaled


def numbers(present: np.ndarray, categories: Sequence[Any], place: str) -> np.ndarray:
    """Return the numbers of categories.

    Raises:
        DataError: for a value that is not among them.
    """
    number_of = {str(value): number for number, value in enumerate(categories)}  # True in a CSV is a text
    number_of |= {value: number for number, value in enumerate(categories)}
    values = present.tolist()
    for value in values:
        if value not in number_of:
            shown = ", ".join(map(str, categories[:5])) + (", ..." if len(categories) > 5 else "")
            raise DataError(f"{place} has {value!r}, which is not among its categories: {shown}; empty it to impute it")
    return np.array([number_of[value] for value in values], dtype=np.int64)


def decode(x: Tensor, descriptions: Sequence[Description]) -> dict[str, np.ndarray]:
    """Return the columns of rows, with their own values; the inverse of `encode` where nothing is missing.

    Whole numbers and counts are rounded, other numbers to the seven digits that float32 has; the more probable of two
    values and the most probable category is taken: x may have means.

    Args:
        x: rows, (N, D): values, or means of them.
        descriptions: of the columns.

    Returns:
        The columns by name, (N,) each: float64, int64, bool, or objects of text.
    """
    rows, columns, start = x.double().cpu().numpy(), dict[str, np.ndarray](), 0
    for column in descriptions:
        entries = rows[:, start : start + width(column)]
        start += width(column)
        kind = column["kind"]
        if kind in (BINARY, CATEGORICAL, CONSTANT):
            chosen = np.zeros(len(rows), dtype=np.int64)
            if kind == BINARY:
                chosen = (entries[:, 0] > 0.5).astype(np.int64)
            elif kind == CATEGORICAL:
                chosen = entries.argmax(axis=1)
            columns[column["name"]] = typed(column["categories"], column["values"])[chosen]
            continue
        values = entries[:, 0] if kind == COUNT else entries[:, 0] * column["sd"] + column["mean"]
        whole = column["values"] == "whole"
        rounded = np.round(values).astype(np.int64) if whole else np.array([float(f"{value:.7g}") for value in values])
        columns[column["name"]] = rounded
    return columns


def typed(categories: Sequence[Any], values: str) -> np.ndarray:
    """Return categories as an array of their type: objects of text, bool, int64 or float64."""
    return np.array(categories, dtype={"text": object, "truth": bool, "whole": np.int64, "number": np.float64}[values])
