"""Files that are whole or absent, whenever a process or its machine goes down.

This module imports nothing of ours, so every other may import it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

PARTIAL = ".partial-"
"""How names of files begin that are being written; what is left of them belongs to dead processes."""

NAME_BYTES = 120
"""Of a name that users choose: with what is put before and after it, it fits into the 255 that file systems take."""

DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
)
"""What a full, read-only, forbidden or broken disk says, or a path below a file."""


def short_name(name: str) -> str:
    """The beginning of a name, as much as fits into `NAME_BYTES` of UTF-8 without a character cut in two."""
    return name.encode(errors="surrogateescape")[:NAME_BYTES].decode(errors="ignore")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write; `path` becomes it when the block ends without an exception, and is untouched otherwise.

    Written beside `path` (a rename across file systems is a copy, which can tear), fsynced, renamed; then its
    directory is fsynced, or the rename could be lost.

    Raises:
        OSError: if it cannot be written.
    """
    partial = path.with_name(f"{PARTIAL}{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """A text, whole or not at all, also for readers in other processes."""
    with atomic(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """An object as JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """What a file holds; empty if it is absent, torn or no object."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def sync_directory(folder: Path) -> None:
    """Have the system keep the names in `folder`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partial(folder: Path, names: Iterable[str]) -> list[Path]:
    """Remove what killed processes left half written in `folder`; the caller holds the lock that says nobody writes.

    Args:
        folder: where.
        names: patterns of the names that the files would have got; others are somebody else's.

    Returns:
        What was removed.
    """
    parts = (part for name in names for part in folder.glob(f"{PARTIAL}{name}.*"))
    orphans = sorted(part for part in parts if part.name.rpartition(".")[2].isdigit())
    for orphan in orphans:
        orphan.unlink()
    return orphans


def reserve(folder: Path, num_bytes: int) -> None:
    """Find out now whether `num_bytes` can be written into `folder`: a file of that size is allocated and removed.

    Raises:
        OSError: if they cannot, for want of room, quota or permission.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(os, "posix_fallocate"):  # macOS
        if shutil.disk_usage(folder).free < num_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        return
    probe = folder / f"{PARTIAL}probe.{os.getpid()}"
    with probe.open("wb") as stream:
        try:
            os.posix_fallocate(stream.fileno(), 0, max(1, num_bytes))
        finally:
            probe.unlink()
