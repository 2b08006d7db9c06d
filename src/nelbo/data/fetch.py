"""One file, many origins: the cache, https mirrors, packages of a registry. All of them are checked alike."""

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
LARGEST = 256 << 20
"""The most that is unpacked of a file whose size nobody published, in bytes."""
SCRATCH = ".fetching."


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Args:
        name: its name in the cache.
        digest: of the unpacked content, as `sha256:...` or `md5:...`; empty where nobody published one: the SHA-256 of
            the first fetch is then kept beside it.
        size: of the unpacked content, in bytes, where it is known; never is more than that unpacked.
        origins: tried in order, as far as this machine has what they need.
    """

    name: str
    digest: str
    size: int | None
    origins: tuple[Origin, ...] = ()


def cache_directory() -> Path:
    """Where data sets are kept: `NELBO_DATA`, or the user's cache directory."""
    return Path(os.environ.get("NELBO_DATA") or pooch.os_cache("nelbo")).expanduser()


def fetch(files: Sequence[RemoteFile], folder: str) -> list[Path]:
    """The verified files of a set in the cache, each from the first origin that has it.

    Raises:
        DataError: if a cached file is not what it should be, or no origin has it; says how to place it by hand.
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
            raise DataError(f"{path}: corrupt data file, {problem}; delete it to fetch it anew")
        if not file.digest and not record(path).exists():
            _keep_digest(path)
    return [home / file.name for file in files]


@contextmanager
def workspace(home: Path) -> Iterator[Path]:
    """A scratch folder in `home`, for one process at a time; what killed processes left there is removed.

    Raises:
        DataError: if it cannot be written.
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
    return DataError(f"{home}: cannot be written ({error}); set NELBO_DATA to a folder that can")


def _fetch_from_origins(file: RemoteFile, path: Path, scratch: Path) -> None:
    tried = []
    for origin in file.origins:
        if not origin.available():
            continue
        unpacked = scratch / file.name
        try:
            origin.write(unpacked, scratch, LARGEST if file.size is None else file.size)
            problem = mismatch(file, unpacked, record(path))
        except Exception as error:  # a server may send anything, and decoders fail on it in every way
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise  # no other origin would help
            problem = _reason(error)
        if not problem:
            os.replace(unpacked, path)
            log.info("fetched %s from %s", path, origin.name)
            return
        tried.append(f"{origin.name} ({problem})")
    hint = f"place a file with {file.digest} there by hand" if file.digest else "place it there by hand"
    raise DataError(f"{path}: not in the cache and not to be had; tried {'; '.join(tried) or 'no source'}; {hint}")


def mismatch(file: RemoteFile, path: Path, seen: Path) -> str:
    """Why `path` is not the file, or an empty string.

    Args:
        file: what it should be.
        path: what is there.
        seen: the digest of its first fetch, for a file without a published one.
    """
    if not path.is_file():
        return "not a file"
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes where {file.size} are expected"
    if size > LARGEST:
        return f"more than {LARGEST} bytes"
    expected = file.digest or _recorded(seen)
    if not expected:
        return ""
    algorithm, _, value = expected.partition(":")
    found = _digest(path, algorithm)
    return "" if found == value else f"its {algorithm} is {found}, expected {value}"


def record(path: Path) -> Path:
    """Where the digest of the first fetch of `path` is kept; it outlives the file."""
    return path.with_name(f"{path.name}.digest")


def _recorded(seen: Path) -> str:
    if not seen.exists():
        return ""
    with readable(seen, "digest", "delete it if you trust the file beside it"):
        if not re.fullmatch("sha256:[0-9a-f]{64}", text := seen.read_text().strip()):
            raise ValueError("needs sha256: and 64 digits")
        return text


def _keep_digest(path: Path) -> None:
    try:
        with workspace(path.parent) as scratch:
            kept = scratch / "digest"
            kept.write_text(f"sha256:{_digest(path, 'sha256')}\n")
            os.replace(kept, record(path))
    except DataError as error:  # the file itself is at hand
        log.warning("%s will not be checked by the next run: %s", path, error)


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        return next((line.strip() for line in said.splitlines() if line.strip()), f"exit status {error.returncode}")
    line = first_line(error)
    # What requests says of a failed connection is a paragraph in one line.
    return line if len(line) <= LONGEST_REASON else type(error).__name__
