"""How long an evaluation will take, said before it has taken it."""

from __future__ import annotations

import time
from collections.abc import Callable

LEAST = 10.0
"""Seconds; what takes less is not announced."""

MINUTE, HOUR = 60, 3600


class Durations:
    """Announces tasks that will take long, a line each, from how long their first batches took.

    The first batch of a task may wait for what is done once (memory, kernels), so the second one is believed where
    there is one, unless the first alone takes as long as what is announced.

    Args:
        say: called with each line.
        clock: seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> None:
        self._say, self._clock = say, clock
        self._last = clock()
        self._first: dict[str, int] = {}
        self._announced = set[str]()

    def begin(self) -> None:
        """A measure begins: what was done before is none of its time."""
        self._last = self._clock()
        self._first.clear()
        self._announced.clear()

    def watch(self, task: str, done: int, total: int) -> None:
        """So much of a task is done; a task begins when the one before it has ended."""
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
        if done >= total:  # the same task of another run begins anew
            self._announced.discard(task)
            self._first.pop(task, None)

    def expect(self, task: str, seconds: float) -> None:
        """A task will take so many seconds from now on."""
        self._announced.add(task)
        if seconds >= LEAST:
            self._say(f"takes      {task}: about {in_words(seconds)}")


def in_words(seconds: float) -> str:
    """A duration for people: 40 s, 3 min, 2.5 h."""
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 1.5 * HOUR else f"{seconds / HOUR:.1f} h"
