"""Files of tables: CSV and Parquet, through pandas, which is imported only here.

Shapes: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nelbo.data.readable import readable
from nelbo.errors import ConfigError, DataError, first_line
from nelbo.errors import path as as_path

SUFFIXES = (".csv", ".parquet")
SKLEARN = "sklearn:"
SKLEARN_TABLES = ("breast_cancer", "diabetes", "wine")
PADDED = re.compile(r"[+-]?0\d")
"""The beginning of numbers that are names, such as postal codes, which would lose their zeros."""

Frame = Any
"""A DataFrame of pandas, which is no requirement of nelbo."""


def read_frame(path: str, key: str = "path") -> Frame:
    """Read a table as its file has it: a CSV as texts, so that what is written back is the same.

    Args:
        path: of a .csv or a .parquet file, or `sklearn:` and the name of a table that is part of scikit-learn.
        key: the config's key, for errors.

    Raises:
        ConfigError: if there is no such file, it is of another kind, or pandas is missing.
        DataError: if it cannot be read, or has no rows or columns of the same name.
    """
    pandas = with_pandas(key, path)
    if str(path).startswith(SKLEARN):
        return sklearn_frame(str(path), key)
    file = as_path(key, path)
    if file.suffix not in SUFFIXES:
        raise ConfigError(key, path, f"must end in {' or '.join(SUFFIXES)}, or be {SKLEARN}{SKLEARN_TABLES[0]}")
    if not file.is_file():
        raise ConfigError(key, path, "is not a file" if file.is_absolute() else f"is not a file in {Path.cwd()}")
    with readable(file, f"{file.suffix} file", "save it again"):
        frame = pandas.read_csv(file, dtype=str) if file.suffix == ".csv" else pandas.read_parquet(file)
    if file.suffix == ".csv" and not isinstance(frame.index, pandas.RangeIndex):
        raise DataError(f"{file}: its rows have more values than its first line has names")
    frame.columns = [str(name) for name in frame.columns]
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{file}: the data set is empty: it has {len(frame)} rows and {len(frame.columns)} columns")
    if len(set(frame.columns)) < len(frame.columns):
        raise DataError(f"{file}: has columns of the same name; rename them")
    return frame


def with_pandas(key: str, path: str) -> Any:
    """Import pandas.

    Raises:
        ConfigError: if it, or what it needs for Parquet, is missing.
    """
    try:
        import pandas

        if str(path).endswith(".parquet"):
            import pyarrow  # noqa: F401 # what pandas reads Parquet with
    except ImportError as error:
        raise ConfigError(key, path, "needs packages: pip install pandas pyarrow") from error
    return pandas


def sklearn_frame(path: str, key: str) -> Frame:
    """Return a table that is part of scikit-learn, without a download; its column `target` is what it is for.

    Raises:
        ConfigError: if scikit-learn has no such table.
    """
    from sklearn import datasets

    name = path.removeprefix(SKLEARN)
    if name not in SKLEARN_TABLES:
        known = ", ".join(f"{SKLEARN}{table}" for table in SKLEARN_TABLES)
        raise ConfigError(key, path, f"is not among the tables of scikit-learn: {known}")
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame.copy()
    if "target_names" in bunch:
        frame["target"] = [str(bunch.target_names[number]) for number in frame["target"]]
    return frame


def columns_of(frame: Frame, place: str, texts: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return the columns of a table by name: float64 with NaN, or objects with None, where a value is missing.

    Texts that are all numbers are numbers, unless some begin with zeros, as postal codes do.

    Args:
        frame: as `read_frame` returns it.
        place: what the table is called in messages.
        texts: names of columns whose texts stay texts, because those of training were.

    Raises:
        DataError: if a column has values that are neither numbers nor texts nor truth values.
    """
    return {name: column_of(frame[name], f"{place}: column {name}", name in texts) for name in frame.columns}


def column_of(series: Any, place: str, is_text: bool) -> np.ndarray:
    """Return one column; see `columns_of`."""
    import pandas

    if isinstance(series.dtype, pandas.CategoricalDtype):
        series = series.astype(series.cat.categories.dtype if not series.isna().any() else object)
    missing = series.isna().to_numpy()
    if pandas.api.types.is_bool_dtype(series.dtype):
        return objects(series, missing)
    if pandas.api.types.is_numeric_dtype(series.dtype) and not pandas.api.types.is_complex_dtype(series.dtype):
        try:
            numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise DataError(f"{place}: cannot be read as numbers: {first_line(error)}") from error
        return refuse_infinite(numbers, place)
    present = series[~missing]
    if all(isinstance(value, bool) for value in present):
        return objects(series, missing)
    if all(isinstance(value, int | float | np.number) for value in present):
        return refuse_infinite(series.to_numpy(dtype=np.float64, na_value=np.nan), place)
    if not all(isinstance(value, str) for value in present):
        kind = next(type(value).__name__ for value in present if not isinstance(value, str))
        name = place.rpartition(" ")[2]
        raise DataError(f"{place} has values of type {kind}; make them numbers, or leave it out: {{{name}: ignore}}")
    parsed = None if is_text or any(PADDED.match(value) for value in present) else as_numbers(series, missing)
    return objects(series, missing) if parsed is None else refuse_infinite(parsed, place)


def as_numbers(series: Any, missing: np.ndarray) -> np.ndarray | None:
    """Return texts as numbers, float64; None if one of them is none."""
    numbers = np.full(len(series), np.nan)
    try:
        numbers[~missing] = [float(value) for value in series[~missing]]
    except ValueError:
        return None
    return numbers


def objects(series: Any, missing: np.ndarray) -> np.ndarray:
    """Return a column of texts or truth values, with None where one is missing."""
    column = np.empty(len(series), dtype=object)
    for place, value in enumerate(series):
        column[place] = None if missing[place] else bool(value) if isinstance(value, bool | np.bool_) else value
    return column


def refuse_infinite(numbers: np.ndarray, place: str) -> np.ndarray:
    """Return numbers unchanged.

    Raises:
        DataError: if one is infinite.
    """
    if np.isinf(numbers).any():
        raise DataError(f"{place} has infinite values; leave them empty, or replace them")
    return numbers


def write_columns(columns: Mapping[str, np.ndarray], file: Path) -> None:
    """Write columns as a new .csv or .parquet file.

    Raises:
        ConfigError: if the file ends otherwise, or cannot be written.
    """
    pandas = with_pandas("out", str(file))
    write_frame(pandas.DataFrame({name: column for name, column in columns.items()}), file)


def write_frame(frame: Frame, file: Path) -> None:
    """Write a table, as `write_columns` does."""
    from nelbo.files import atomic

    check_suffix(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as stream:
            if file.suffix == ".csv":
                stream.write(frame.to_csv(index=False).encode())
            else:
                frame.to_parquet(stream, index=False)
    except OSError as error:
        raise ConfigError("out", file, f"cannot be written: {error.strerror or first_line(error)}") from error


def check_suffix(file: Path) -> None:
    """Check the name of a file that is to be written.

    Raises:
        ConfigError: if it has no suffix of `SUFFIXES`.
    """
    if file.suffix not in SUFFIXES:
        raise ConfigError("out", file, f"must end in {' or '.join(SUFFIXES)}")


def filled(frame: Frame, columns: Mapping[str, np.ndarray]) -> Frame:
    """Return a table in which values that were missing are those of `columns`; all others stay as they are.

    Args:
        frame: as `read_frame` returns it.
        columns: values of every row, by name of a column, (N,) each; of a column that the table lacks, a new one.
    """
    import pandas

    whole = frame.copy()
    for name, values in columns.items():
        if name not in frame.columns:
            whole[name] = values
            continue
        series = frame[name]
        missing = series.isna().to_numpy()
        if not missing.any():
            continue
        new = values[missing].tolist()
        texts = pandas.api.types.is_string_dtype(series.dtype) and not isinstance(series.dtype, pandas.CategoricalDtype)
        if texts and values.dtype != object:
            new = [str(value) for value in new]
        column = series.copy()
        column[missing] = new
        whole[name] = column.infer_objects() if series.dtype == object else column
    return whole
