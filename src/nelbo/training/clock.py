"""How long something takes: on the wall, and on the processors."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import distributed

TICKS = os.sysconf("SC_CLK_TCK")
"""Of the system's processor clock in a second."""


class Clock:
    """Adds up the seconds between `start` and `stop`.

    Args:
        seconds: on the wall so far.
        cpu_seconds: of this process and its data loaders' workers so far, user and system time of all threads; None
            where that is not known, and then it stays so.
    """

    def __init__(self, seconds: float = 0.0, cpu_seconds: float | None = 0.0) -> None:
        self.seconds, self.cpu_seconds = seconds, cpu_seconds
        self._started: tuple[float, float] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started last, and not stopped."""
        return self._started is not None

    def start(self) -> None:
        """Begin; what ran since an earlier start does not count."""
        self._started = time.perf_counter(), processor_seconds()

    def stop(self, device: torch.device) -> None:
        """Add what ran since the start, once `device` has done what it was given."""
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        self.seconds, self.cpu_seconds = self.read()
        self._started = None

    def read(self) -> tuple[float, float | None]:
        """Seconds on the wall and of the processors, with those that run."""
        if self._started is None:
            return self.seconds, self.cpu_seconds
        wall, cpu = time.perf_counter() - self._started[0], processor_seconds() - self._started[1]
        return self.seconds + wall, None if self.cpu_seconds is None else self.cpu_seconds + cpu


def processor_seconds() -> float:
    """Processor time of this process so far, and of its workers: those that ended, and on Linux those that live."""
    ended = os.times()
    living = (_of_process(child.pid) for child in multiprocessing.active_children() if child.pid is not None)
    return time.process_time() + ended.children_user + ended.children_system + sum(living)


def _of_process(pid: int) -> float:
    """User and system seconds of another process, as Linux tells them; 0 elsewhere, and of one that has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def is_first_process() -> bool:
    """Whether this is the first of the processes that train together, or the only one."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def over_processes(value: float | None) -> float | None:
    """The sum of a value over the processes that train together; None if one of them does not know it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values: list[float | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None
