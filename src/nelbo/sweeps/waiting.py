"""Context managers for the time in which a sweep waits for its launcher: signals to stop, and regular calls."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from hydra.plugins.launcher import Launcher

from nelbo.errors import Stopped
from nelbo.sweeps import compat

log = logging.getLogger(__name__)

POLL_INTERVAL = 1.0
"""Seconds between two calls while a launcher works."""


@contextlib.contextmanager
def exit_on_signals(hint: Callable[[], str]) -> Iterator[list[int]]:
    """End the sweep on SIGTERM, SIGHUP and Ctrl-C, with a line and the exit status that a shell expects.

    Args:
        hint: returns the end of that line.

    Yields:
        The numbers of the signals received so far, without that of Ctrl-C.

    Raises:
        SystemExit: on one of these signals.
    """
    signums: list[int] = []

    def raise_stopped(signum: int, frame: FrameType | None) -> None:
        signums.append(signum)
        raise Stopped(signum)

    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    for which, handler in previous.items():
        if handler != signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(which, raise_stopped)
    try:
        yield signums
    except (Stopped, KeyboardInterrupt) as stopped:
        signum = stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT
        log.error("stopped by %s; %s", signal.Signals(signum).name, hint())
        sys.exit(128 + signum)
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


@contextlib.contextmanager
def polled(launcher: Launcher, refresh: Callable[[], None], touch: Callable[[], None]) -> Iterator[None]:
    """Call `refresh` and `touch` at intervals while a launcher works.

    The launcher `local` calls them itself while it waits, because it forks; for others a thread calls them. Hydra's
    basic launcher runs jobs in this process and prints what they print, so there is no table beside it.

    Args:
        launcher: the launcher.
        refresh: refreshes the live table.
        touch: touches the owner's file of the sweep.
    """
    if hasattr(launcher, "tick"):

        def tick() -> None:
            touch()
            refresh()

        launcher.tick = tick
        yield
        return
    ended = threading.Event()

    def poll() -> None:
        while not ended.wait(POLL_INTERVAL):
            touch()
            if not compat.is_basic_launcher(launcher):
                refresh()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
