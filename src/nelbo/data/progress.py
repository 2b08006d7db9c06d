"""Progress bars of downloads and of reading pictures."""

from __future__ import annotations

import os
import threading

from tqdm import tqdm


class ProgressBar(tqdm):  # type: ignore[misc]
    """A progress bar whose lock belongs to this process alone, and without a thread that watches it.

    The lock of tqdm itself is shared with forked processes: one that is killed while it holds the lock leaves all the
    others waiting for ever, even with bars that show nothing.
    """

    monitor_interval = 0


def _new_lock() -> None:
    ProgressBar.set_lock(threading.RLock())


_new_lock()
if hasattr(os, "register_at_fork"):  # another thread may hold the lock when this process forks
    os.register_at_fork(after_in_child=_new_lock)
