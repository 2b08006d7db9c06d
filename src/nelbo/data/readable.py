"""Conversion of any error of a file reader into a DataError that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nelbo.errors import DataError, NelboError, first_line


@contextmanager
def readable(path: Path, kind: str, hint: str = "delete it to fetch it again") -> Iterator[None]:
    """Turn errors that are raised inside the `with` block into a DataError.

    Args:
        path: the file that is read.
        kind: what it should be, for the message: "not a readable <kind>".
        hint: what the user can do about it.

    Raises:
        DataError: for any exception but a NelboError, which is raised as it is.
    """
    try:
        yield
    except NelboError:
        raise
    except Exception as error:  # damaged files make decoders raise any kind of exception
        raise DataError(f"{path}: not a readable {kind} ({first_line(error)}); {hint}") from error
