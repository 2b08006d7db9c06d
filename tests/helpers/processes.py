"""Waiting for processes."""

from __future__ import annotations

import time
from pathlib import Path


def wait_for(condition: object, seconds: float, interval: float = 0.05) -> None:
    """Wait until `condition()` is true, with a look every `interval` seconds; fail after `seconds`."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(interval)


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
