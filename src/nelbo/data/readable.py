"""Whatever goes wrong inside a reader of a file format, as one line that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nelbo.errors import DataError, NelboError, first_line


@contextmanager
def readable(path: Path, kind: str, hint: str = "delete it to fetch it anew") -> Iterator[None]:
    """Raises: DataError: for any error but our own."""
    try:
        yield
    except NelboError:
        raise
    except Exception as error:  # damaged files make decoders fail in every way that their authors did not foresee
        raise DataError(f"{path}: not a readable {kind} ({first_line(error)}); {hint}") from error
