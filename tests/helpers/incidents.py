"""train.py with an incident, such as a signal or a full disk: `incidents.py PLACE:NUMBER:INCIDENT OVERRIDE...`.

PLACE is `data`, `train` or `validation`: the incident happens at the NUMBERth loading of data, training step or
validation step, counted from 1 in this process. With `start` a disk limit holds from the start; with `nowhere` nothing
happens. INCIDENT is one of

- `SIGTERM` or another signal, sent to the process; `twice-SIGTERM` sends it twice;
- `group-SIGTERM`, sent to the process group, which is the run's own;
- `sweep-SIGTERM`, sent to the sweep whose cell this process is;
- `hangup`, which closes the terminal that the process runs in;
- `awaited-SIGUSR2`, for which a handler exists already: it writes the file `$HEARD` and exits with status 5;
- `ignored-SIGHUP`, which the process ignores, as under nohup;
- `limit-4096`, a disk on which no file grows beyond that number of bytes;
- `full`, a disk that accepts no more data for the file `$FULL`.

The environment variable `$HAPPENED` names a file that the incident creates; if it exists already, nothing happens.
`$IN` is the working directory, `$CLOCK` an offset of the clock in seconds, `$STARTS` the number of simultaneous runs.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import multiprocessing
import os
import pty
import resource
import runpy
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import hydra.core.utils

from nelbo.data.module import ImageData
from nelbo.training import VAEModule

ROOT = Path(__file__).parents[2]
PLACES = {
    "data": (ImageData, "setup"),
    "train": (VAEModule, "training_step"),
    "validation": (VAEModule, "validation_step"),
}


def prepare(place: str, number: int, incident: str) -> None:
    """Wrap the method of `place` so that the incident happens in its `number`th call."""
    holder, name = PLACES[place]
    original, calls = getattr(holder, name), itertools.count(1)

    @functools.wraps(original)
    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            happen(incident)
        return original(*arguments, **options)

    setattr(holder, name, call)


def happen(incident: str) -> None:
    """Make the incident happen, unless it has happened before."""
    try:
        Path(os.environ["HAPPENED"]).touch(exist_ok=False)
    except FileExistsError:
        return
    if incident == "full":
        os.unlink(os.environ["FULL"])
        os.symlink("/dev/full", os.environ["FULL"])
        return
    if incident == "hangup":
        os.kill(os.getppid(), signal.SIGUSR1)
        time.sleep(0.5)  # until the terminal is closed
        return
    target, _, name = incident.rpartition("-")
    if target == "limit":
        limit(int(name))
        return
    signum = signal.Signals[name]
    if target == "group":
        os.killpg(0, signum)
    elif target == "sweep" and multiprocessing.parent_process():
        os.kill(os.getppid(), signum)
    else:
        os.kill(os.getpid(), signum)
    if target == "twice":
        os.kill(os.getpid(), signum)


def limit(num_bytes: int) -> None:
    """Let no file grow beyond `num_bytes`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def run_in_a_terminal() -> None:
    """Continue in a child process in a new terminal; this process holds its other end and closes it on SIGUSR1."""
    child, terminal = pty.fork()
    if child == 0:
        return
    signal.signal(signal.SIGUSR1, lambda *_: os.close(terminal))
    with contextlib.suppress(OSError):  # closed at either end
        while shown := os.read(terminal, 4096):
            os.write(1, shown)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def hear(signum: int, frame: FrameType | None) -> None:
    """Stand in for submitit's handler, which requeues the job."""
    saved = sorted(path.name for path in Path().rglob("*.ckpt"))
    Path(os.environ["HEARD"]).write_text(" ".join(saved))
    sys.exit(5)


class Frozen(datetime.datetime):
    """A clock that has stopped."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Frozen:
        return cls(2026, 1, 2, 3, 4, 5)


def start_many(count: int) -> None:
    """Continue in `count` forks at the same second of the clock; this process exits with their worst status."""
    hydra.core.utils.datetime = Frozen  # type: ignore[attr-defined] # used by the resolver ${now:}
    children = []
    for _ in range(count):
        if not (child := os.fork()):
            return
        children.append(child)
    os._exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    place, count, incident = sys.argv[1].split(":")
    sys.argv = [str(ROOT / "train.py"), *sys.argv[2:]]
    if place == "start":
        limit(int(incident.removeprefix("limit-")))
    elif place != "nowhere":
        prepare(place, int(count), incident)
    if incident.startswith("group-"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # however the suite was started
    signal.signal(signal.SIGHUP, signal.SIG_IGN if incident.startswith("ignored-") else signal.SIG_DFL)
    if incident == "awaited-SIGUSR2":
        signal.signal(signal.SIGUSR2, hear)
    if incident == "hangup":
        run_in_a_terminal()
    os.chdir(os.environ.get("IN", "."))
    if clock := float(os.environ.get("CLOCK", "0")):
        real_time = time.time
        time.time = lambda: real_time() + clock
    if starts := int(os.environ.get("STARTS", "0")):
        start_many(starts)
    runpy.run_path(sys.argv[0], run_name="__main__")
