"""Measurement of wall-clock time and processor time."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import torch
from torch import distributed

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
"""Resolution of the processor times in /proc."""


class Clock:
    """A stopwatch that adds up the seconds between `start` and `stop`.

    Args:
        seconds: wall-clock seconds measured so far.
        cpu_seconds: processor seconds measured so far, of this process and its data loaders' workers: user and system
            time of all threads. None if unknown; it then stays None.

    Example:
        >>> clock = Clock(seconds=2.0)
        >>> clock.is_running
        False
        >>> clock.start()
        >>> clock.stop(torch.device("cpu"))
        >>> clock.seconds > 2.0
        True
    """

    def __init__(self, seconds: float = 0.0, cpu_seconds: float | None = 0.0) -> None:
        self.seconds, self.cpu_seconds = seconds, cpu_seconds
        self._started: tuple[float, float] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the clock was started and not stopped since."""
        return self._started is not None

    def start(self) -> None:
        """Start, or restart: time since an earlier start that was not stopped is discarded."""
        self._started = time.perf_counter(), processor_seconds()

    def stop(self, device: torch.device) -> None:
        """Add the time since the start, after waiting until `device` has finished its work."""
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        self.seconds, self.cpu_seconds = self.read()
        self._started = None

    def read(self) -> tuple[float, float | None]:
        """Return wall-clock and processor seconds, including those since the last start."""
        if self._started is None:
            return self.seconds, self.cpu_seconds
        wall, cpu = time.perf_counter() - self._started[0], processor_seconds() - self._started[1]
        return self.seconds + wall, None if self.cpu_seconds is None else self.cpu_seconds + cpu


def processor_seconds() -> float:
    """Return the processor time of this process and its workers so far; running workers are counted on Linux only."""
    ended = os.times()
    running = (_process_seconds(child.pid) for child in multiprocessing.active_children() if child.pid is not None)
    return time.process_time() + ended.children_user + ended.children_system + sum(running)


def _process_seconds(pid: int) -> float:
    """Return user and system seconds of another process on Linux; 0 elsewhere or if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def is_first_process() -> bool:
    """Return whether this is the first of the processes that train together, or the only one."""
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def sum_over_processes(value: float | None) -> float | None:
    """Return the sum of a value over the processes that train together; None if it is None in one of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values: list[float | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    known = [one for one in values if one is not None]
    return sum(known) if len(known) == len(values) else None
