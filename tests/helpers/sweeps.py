"""Running of sweeps, and reading of their cells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.forks import ROOT, Done, forked, python

SMALL = ("model=mlp_vae", "data=digits", "trainer=smoke", "callbacks=none", "logger=none")
"""Overrides of cells that train for a second or less."""


def sweep(folder: Path, *overrides: str, script: str = "train.py", **environment: str) -> Done:
    """Run a sweep (`train.py -m`) into `folder`, in a fork."""
    return forked(script, "-m", *overrides, f"hydra.sweep.dir={folder}", **environment)


def sweep_apart(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep in a new interpreter, whose cells `processes_in` finds."""
    return python("train.py", "-m", *overrides, f"hydra.sweep.dir={folder}", **environment)


def start_sweep(folder: Path, *overrides: str, script: str = "train.py", **environment: str) -> subprocess.Popen[str]:
    """Start a sweep in a new interpreter and process group, without waiting for it."""
    return subprocess.Popen(
        [sys.executable, script, "-m", *overrides, f"hydra.sweep.dir={folder}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts background jobs with SIGINT ignored, and the test suite may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until `condition()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def records(folder: Path) -> dict[str, dict[str, object]]:
    """Return the records of the cells by directory name without its digest."""
    cells = {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in folder.glob("*/cell.json")}
    return dict(sorted(cells.items()))


def results(folder: Path) -> dict[str, dict[str, float]]:
    """Return the test metrics of the finished cells by directory name without its digest."""
    done = {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    return {name: {k: v for k, v in metrics.items() if k.startswith("test/")} for name, metrics in sorted(done.items())}


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of living processes that contain the path of `folder`."""
    commands = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder) in command and state != "Z" and int(process.name) != os.getpid():
            commands.append(command)
    return commands


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> tuple[str, str]:
    """Send a signal to a sweep, not to its cells, wait for its end, and return stdout and stderr."""
    process.send_signal(signum)
    return process.communicate(timeout=60)
