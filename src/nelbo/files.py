"""Atomic and durable writing of files: after a crash a file has its old or its new content, never a part of it.

This module imports no other module of nelbo, so that every module can import it.
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
"""Prefix of the names of temporary files while they are written; killed processes leave them behind."""

NAME_BYTES = 120
"""Maximum length in bytes of a name chosen by a user.

Names of files have a prefix and a suffix in addition; file systems allow 255 bytes together.
"""

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
"""Error numbers of a disk that is full, read-only or broken, of missing permissions, and of a path below a file."""


def short_name(name: str) -> str:
    """Return `name` truncated to at most `NAME_BYTES` bytes of UTF-8, without splitting a character."""
    return name.encode(errors="surrogateescape")[:NAME_BYTES].decode(errors="ignore")


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that replaces `path` when the block ends without an exception.

    If the block raises, `path` keeps its content. The temporary file is in the directory of `path`, because a rename
    across file systems is a copy, which can be interrupted. The file is synced before the rename and its directory
    after it, because a power failure could undo a rename that is not synced.

    Example:
        >>> with atomic(Path("notes.txt")) as stream:
        ...     _ = stream.write(b"content")

    Args:
        path: the file to write; its directory must exist.

    Raises:
        OSError: if the file cannot be written.
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
    """Write `text` to `path` atomically, in UTF-8."""
    with atomic(path) as stream:
        stream.write(text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path` atomically, as a JSON object."""
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`; empty if the file is missing, unreadable or not a JSON object."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sync_directory(folder: Path) -> None:
    """Sync `folder`, so that files created or renamed in it survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_partial(folder: Path, names: Iterable[str]) -> list[Path]:
    """Remove the temporary files that killed processes left in `folder`.

    The caller must hold the lock of the directory, so that no other process is writing one of them.

    Args:
        folder: the directory to clean.
        names: patterns of the final names of the files; temporary files of other names are kept.

    Returns:
        The files that were removed.
    """
    partial = (file for name in names for file in folder.glob(f"{PARTIAL}{name}.*"))
    orphans = sorted(file for file in partial if file.name.rpartition(".")[2].isdigit())
    for orphan in orphans:
        orphan.unlink()
    return orphans


def reserve(folder: Path, num_bytes: int) -> None:
    """Check that `num_bytes` can be written into `folder`, by allocating a file of that size and removing it.

    Args:
        folder: the directory; it is created if it is missing.
        num_bytes: the size to reserve.

    Raises:
        OSError: if space, quota or permission is missing.
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
