"""Progress bars: their lock, and what a terminal shows of a download."""

from __future__ import annotations

import os
import pty
import sys
import termios
import threading
from pathlib import Path

import pytest

from nelbo.data.fetch import fetch
from nelbo.data.progress import ProgressBar
from tests.helpers.children import Child
from tests.helpers.processes import wait_for
from tests.helpers.server import remote


def test_a_process_killed_while_it_holds_the_lock_leaves_others_free(tmp_path: Path) -> None:
    """The lock of tqdm is shared with forked processes, and stays locked."""

    def hold() -> None:
        with ProgressBar.get_lock():
            (tmp_path / "holds").touch()
            threading.Event().wait()

    child = Child(hold)
    wait_for((tmp_path / "holds").exists, seconds=60)
    child.kill()
    assert ProgressBar.get_lock().acquire(timeout=10)
    ProgressBar.get_lock().release()
    assert list(ProgressBar(range(3), disable=None)) == [0, 1, 2]


def test_a_process_is_forked_while_a_thread_holds_the_lock() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with ProgressBar.get_lock():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        child = Child(lambda: ProgressBar.get_lock().acquire(timeout=10))
        assert child.wait() == (0, "True")
    finally:
        done.set()
        thread.join()


def test_no_thread_watches_the_bars() -> None:
    ProgressBar(total=1, disable=True)
    assert ProgressBar.monitor is None


def test_a_terminal_shows_how_much_was_downloaded(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 80))
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        fetch([remote(server + "/good")], "set")
        monkeypatch.undo()
        shown = os.read(reader, 10_000).decode()
    os.close(reader)
    assert "100%|" in shown and "50.0k/50.0k" in shown, shown
