"""Exclusive ownership of a directory by one process, visible on all machines of a cluster.

A lock of the operating system is exact and is released however its owner dies, but it may not work between machines
that share a file system. The owner therefore also writes a file that identifies it, and touches that file while it
runs. On another machine a free lock does not prove that the owner is dead, but a file that is no longer touched does.

Of nelbo, this module imports `errors` and `files` only.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from nelbo.errors import NelboError
from nelbo.files import DISK_ERRORS

log = logging.getLogger(__name__)

TOUCH_INTERVAL = 15.0
"""Seconds between two touches of an owner's file."""

WATCH_SECONDS = 90.0
"""Seconds without a touch after which a process on another machine takes ownership.

The file is watched for that long, so the clocks of the two machines are not compared.
"""

ABANDONED_AGE = 600.0
"""Age in seconds at which `living_owner` treats a file from another machine as abandoned.

It compares clocks, which may differ by minutes between machines.
"""

POLL_INTERVAL = 1.0
"""Seconds between two looks at a file that is being watched."""


@dataclass(frozen=True)
class Owner:
    """A process that owns a directory.

    Args:
        host: name of its machine.
        pid: its process number there; 0 if unknown.
        machine: identifier of the running kernel; locks are reliable between processes of the same kernel.
        since: time at which it took ownership, in seconds since 1970.
    """

    host: str = "an unknown machine"
    pid: int = 0
    machine: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        start = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {start}" if self.pid else "an unknown process"


class DirectoryInUse(NelboError):
    """The directory is owned by another process."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"the directory is in use by {owner}")
        self.owner = owner


class Ownership:
    """Context manager in which this process owns a directory for one purpose.

    Args:
        folder: the directory; it must exist when the context is entered.
        name: name of the purpose; the files are `NAME.lock` and `NAME.owner`.
        patience: seconds to wait for a lock that another process holds.
        touch_in_thread: whether a thread touches the owner's file. Pass False where the process forks, and call `touch`
            instead.
    """

    def __init__(self, folder: Path, name: str, *, patience: float = 0.0, touch_in_thread: bool = True) -> None:
        self.lock, self.file = FileLock(folder / f"{name}.lock"), folder / f"{name}.owner"
        self.patience, self.touch_in_thread = patience, touch_in_thread
        self.owner = Owner(socket.gethostname(), os.getpid(), this_machine(), time.time())
        self._touched, self._touch_failed = time.monotonic(), False
        self._released = threading.Event()

    def __enter__(self) -> Ownership:
        """Take ownership.

        Raises:
            DirectoryInUse: if another process owns the directory.
            OSError: if the directory cannot be written.
        """
        try:
            self.lock.acquire(timeout=self.patience)
        except Timeout as error:
            raise DirectoryInUse(read_owner(self.file) or Owner()) from error
        try:
            self._wait_for_other_machine()
            self.file.unlink(missing_ok=True)
            self._write()
        except BaseException as error:
            self.lock.release()
            if isinstance(error, FileExistsError):
                raise DirectoryInUse(read_owner(self.file) or Owner()) from error
            raise
        if self.touch_in_thread:
            threading.Thread(target=self._touch_until_released, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        if read_owner(self.file) == self.owner:
            self.file.unlink(missing_ok=True)
        self.lock.release()

    def touch(self) -> None:
        """Touch the owner's file if `TOUCH_INTERVAL` seconds have passed since the last touch."""
        if time.monotonic() - self._touched >= TOUCH_INTERVAL:
            self._touch()

    def _touch(self) -> None:
        self._touched = time.monotonic()
        try:
            os.utime(self.file)
            self._touch_failed = False
        except OSError as error:
            if not self._touch_failed:
                reason = f"{self.file}: cannot be touched ({error.strerror})"
                log.warning("%s: other machines may conclude that this process has ended", reason)
            self._touch_failed = True

    def _touch_until_released(self) -> None:
        while not self._released.wait(TOUCH_INTERVAL):
            self._touch()

    def _write(self) -> None:
        with self.file.open("x") as stream:  # if two machines do this at the same time, only one succeeds
            try:
                json.dump(asdict(self.owner), stream)
                stream.flush()
            except OSError:  # full disk: a file without an owner would keep other processes out
                self.file.unlink()
                raise

    def _wait_for_other_machine(self) -> None:
        """Watch the file of an owner on another machine until it is touched or removed, or `WATCH_SECONDS` have passed.

        This process holds the lock, so an owner on this machine is dead.

        Raises:
            DirectoryInUse: if the file is touched.
        """
        owner = read_owner(self.file)
        if owner is None or owner.machine == this_machine():
            return
        log.info("%s: waiting up to %g s to see whether %s is still running", self.file.parent, WATCH_SECONDS, owner)
        before, deadline = touched_at(self.file), time.monotonic() + WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(min(POLL_INTERVAL, WATCH_SECONDS))
            now = touched_at(self.file)
            if now is None:  # its owner has released the directory
                return
            if now != before:
                raise DirectoryInUse(owner)


@functools.cache
def this_machine() -> str:
    """Return an identifier of the running kernel; it differs between machines and after each reboot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def read_owner(file: Path) -> Owner | None:
    """Return the owner recorded in a file: None without a file, an `Owner` with pid 0 if it cannot be read."""
    try:
        return Owner(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Owner()


def touched_at(file: Path) -> float | None:
    """Return the time at which a file was last touched; None if it does not exist."""
    try:
        with file.open("rb") as stream:  # opening makes a network file system refresh what it has cached
            return os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return None


def living_owner(folder: Path, name: str) -> Owner | None:
    """Return the process that owns a directory for the purpose `name`, or None if there is none.

    For an owner on another machine this is a judgement from the age of its file; see `ABANDONED_AGE`.
    """
    lock, file = folder / f"{name}.lock", folder / f"{name}.owner"
    owner = read_owner(file)
    if owner is None and not lock.exists():
        return None
    held = is_held(lock)
    if held:
        return owner or Owner()
    if owner is None or (owner.machine == this_machine() and held is not None):
        return None
    touched = touched_at(file)
    return owner if touched is not None and time.time() - touched < ABANDONED_AGE else None


def is_held(lock: Path) -> bool | None:
    """Return whether a process holds a lock; None if the lock file cannot be opened.

    A lock that a process on another machine holds may look free.
    """
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return None
