"""Estimates of how long the tasks of an evaluation will take, announced at their beginning."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 10.0
"""The shortest duration, in seconds, that is announced."""

MINUTE, HOUR = 60, 3600


class Durations:
    """Announces long tasks in one line each, with an estimate from the duration of their first batches.

    The first batch of a task may include one-off work (memory, kernels), so the estimate uses the second one, unless
    there is none or the first alone takes as long as `LEAST`.

    Args:
        say: called with each line.
        clock: returns the time in seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._say, self._clock = say, clock
        self._last = clock()
        self._first: dict[str, int] = {}
        self._announced = set[str]()

    def begin(self) -> None:
        """Begin a measure: time before this call does not count for its tasks."""
        self._last = self._clock()
        self._first.clear()
        self._announced.clear()

    def watch(self, task: str, done: int, total: int) -> None:
        """Record the progress of a task, which begins when the previous one has ended.

        Args:
            task: the name of the task.
            done: how many of its parts, such as batches, are done.
            total: how many parts it has.
        """
        now = self._clock()
        seconds, self._last = now - self._last, now
        if task not in self._announced:
            before = self._first.get(task)
            if before is not None:
                self.expect(task, seconds / (done - before) * (total - done))
            elif seconds >= LEAST or total <= 2 * done:
                self.expect(task, seconds / done * (total - done))
            else:
                self._first[task] = done
        if done >= total:  # for the same task of another run
            self._announced.discard(task)
            self._first.pop(task, None)

    def expect(self, task: str, seconds: float) -> None:
        """Announce a task that will take this many more seconds, if that is long.

        Args:
            task: the name of the task.
            seconds: the estimate.
        """
        self._announced.add(task)
        if seconds >= LEAST:
            self._say(f"takes      {task}: about {in_words(seconds)}")


def in_words(seconds: float) -> str:
    """Return a rounded duration as text.

    Examples:
        >>> in_words(40.2), in_words(185), in_words(9000)
        ('40 s', '3 min', '2.5 h')
    """
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 1.5 * HOUR else f"{seconds / HOUR:.1f} h"
