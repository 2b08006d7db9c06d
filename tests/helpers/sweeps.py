"""What tests of sweeps share."""

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
"""Cells of a second or less."""


def sweep(folder: Path, *overrides: str, script: str = "train.py", **environment: str) -> Done:
    """`python train.py -m` in a directory, in a fork."""
    return forked(script, "-m", *overrides, f"hydra.sweep.dir={folder}", **environment)


def sweep_apart(folder: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, whose cells `processes_in` finds."""
    return python("train.py", "-m", *overrides, f"hydra.sweep.dir={folder}", **environment)


def start_sweep(folder: Path, *overrides: str, script: str = "train.py", **environment: str) -> subprocess.Popen[str]:
    """The same, not waited for, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, script, "-m", *overrides, f"hydra.sweep.dir={folder}"],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell starts its background jobs with SIGINT ignored, and the suite may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until something has happened."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def records(folder: Path) -> dict[str, dict[str, object]]:
    """What the cells' records say, by directory name without its digest."""
    found = {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in folder.glob("*/cell.json")}
    return dict(sorted(found.items()))


def results(folder: Path) -> dict[str, dict[str, float]]:
    """The test metrics of the cells that are done, by directory name without its digest."""
    done = {path.parent.name.rpartition("-")[0]: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    return {name: {k: v for k, v in metrics.items() if k.startswith("test/")} for name, metrics in sorted(done.items())}


def processes_in(folder: Path) -> list[str]:
    """Living processes whose command line or working files name a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder) in words and state != "Z" and int(process.name) != os.getpid():
            found.append(words)
    return found


def stop(process: subprocess.Popen[str], signum: signal.Signals) -> tuple[str, str]:
    """Send a signal to a sweep alone; its output once it has ended."""
    process.send_signal(signum)
    return process.communicate(timeout=60)
