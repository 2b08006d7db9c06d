"""Which process works in a directory, known to all others, on this machine and on others.

A lock of the operating system is exact, and is released however its owner dies, but it may not reach from one machine
of a cluster to another. So the owner also writes who it is into a file, and touches that file while it lives: on
another machine a free lock proves nothing, but a file that nobody touches any more does.

This module imports nothing of ours but `errors` and `files`.
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

BEAT = 15.0
"""Seconds between two touches of an owner's file."""

SILENCE = 90.0
"""Seconds for which a file is watched before its owner, on another machine, is replaced: no clocks are compared."""

UNHEARD = 600.0
"""Age in seconds at which a file counts as abandoned for those who only look: clocks may differ by minutes."""

SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Owner:
    """A process that works in a directory.

    Args:
        host: the name of its machine.
        pid: its number there.
        machine: the running kernel, which is as far as locks are sure to reach.
        since: when it began, in seconds since 1970.
    """

    host: str = "an unknown machine"
    pid: int = 0
    machine: str = ""
    since: float = 0.0

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {began}" if self.pid else "an unknown process"


class Owned(NelboError):
    """A directory that belongs to another process."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"{owner} works in it")
        self.owner = owner


class Ownership:
    """A context in which this process owns a directory, for one purpose.

    Args:
        folder: the directory, which exists by then.
        name: of the purpose: the files are `NAME.lock` and `NAME.owner`.
        patience: seconds to wait for a lock that somebody holds.
        touch_in_thread: whether a thread touches the file; where processes are forked, `touch` is to be called instead.
    """

    def __init__(self, folder: Path, name: str, *, patience: float = 0.0, touch_in_thread: bool = True) -> None:
        self.lock, self.file = FileLock(folder / f"{name}.lock"), folder / f"{name}.owner"
        self.patience, self.touch_in_thread = patience, touch_in_thread
        self.owner = Owner(socket.gethostname(), os.getpid(), this_machine(), time.time())
        self._touched, self._unheard = time.monotonic(), False
        self._released = threading.Event()

    def __enter__(self) -> Ownership:
        """Take the directory.

        Raises:
            Owned: if another process has it.
            OSError: if it cannot be written.
        """
        try:
            self.lock.acquire(timeout=self.patience)
        except Timeout as error:
            raise Owned(read_owner(self.file) or Owner()) from error
        try:
            self._wait_for_silence()
            self.file.unlink(missing_ok=True)
            self._write()
        except BaseException as error:
            self.lock.release()
            if isinstance(error, FileExistsError):
                raise Owned(read_owner(self.file) or Owner()) from error
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
        """Show other machines that this process lives, if it is time."""
        if time.monotonic() - self._touched >= BEAT:
            self._touch()

    def _touch(self) -> None:
        self._touched = time.monotonic()
        try:
            os.utime(self.file)
            self._unheard = False
        except OSError as error:
            if not self._unheard:
                reason = f"{self.file}: cannot be touched ({error.strerror})"
                log.warning("%s: other machines may take this process for dead", reason)
            self._unheard = True

    def _touch_until_released(self) -> None:
        while not self._released.wait(BEAT):
            self._touch()

    def _write(self) -> None:
        with self.file.open("x") as stream:  # where two machines do this at once, one of them succeeds
            try:
                json.dump(asdict(self.owner), stream)
                stream.flush()
            except OSError:  # a full disk: nobody's file would keep others out
                self.file.unlink()
                raise

    def _wait_for_silence(self) -> None:
        """With the lock held: whoever stands in the file is dead, unless it is on another machine."""
        owner = read_owner(self.file)
        if owner is None or owner.machine == this_machine():
            return
        log.info("%s: waiting up to %g s to see whether %s still lives", self.file.parent, SILENCE, owner)
        before, deadline = touched_at(self.file), time.monotonic() + SILENCE
        while time.monotonic() < deadline:
            time.sleep(min(SECONDS_BETWEEN_LOOKS, SILENCE))
            now = touched_at(self.file)
            if now is None:  # released meanwhile
                return
            if now != before:
                raise Owned(owner)


@functools.cache
def this_machine() -> str:
    """A name of the running kernel: different on every machine, and after every start of one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():x}"


def read_owner(file: Path) -> Owner | None:
    """Who stands in an owner's file: None if there is none, an `Owner` without a number if it cannot be read."""
    try:
        return Owner(**json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Owner()


def touched_at(file: Path) -> float | None:
    """When a file was touched last; None if it is not there. Opening it makes a network file system look anew."""
    try:
        with file.open("rb") as stream:
            return os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return None


def living_owner(folder: Path, name: str) -> Owner | None:
    """Who owns a directory for a purpose, as far as it can be seen from here; None if nobody does."""
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
    return owner if touched is not None and time.time() - touched < UNHEARD else None


def is_held(lock: Path) -> bool | None:
    """Whether a process holds a lock, as far as locks reach; None where the file may not be opened to find out."""
    try:
        with FileLock(lock).acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        return None
