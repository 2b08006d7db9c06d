"""train.py in harder circumstances than those of stopping.py: `incidents.py WHERE:NUMBER:WHAT OVERRIDE...`.

WHERE is `data`, `train` or `validation`: in the NUMBERth loading of data, training or validation step, counted from 1
in this process, WHAT happens. `SIGTERM` (or another) reaches the process; `twice-SIGTERM` comes again at once;
`group-SIGTERM` reaches its process group, which is its own; `sweep-SIGTERM` the sweep whose cell it is; `hangup` closes
the terminal that it runs in; for `awaited-SIGUSR2` somebody waits already, who says so in the file `$HEARD` and exits
with status 5. `ignored-SIGHUP` is one that the process ignores, as below nohup.
`limit-4096` is a disk on which no file grows beyond so many bytes, `full` one that takes no more of the file `$FULL`;
from the `start` a disk can be limited too. `$HAPPENED` names a file that is made then; where it
exists already, nothing happens any more.

`$IN` is the working directory, `$CLOCK` seconds that the clock is off, `$STARTS` how many runs start at one time.
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


def prepare(where: str, number: int, what: str) -> None:
    """Put the incident in its place."""
    holder, name = PLACES[where]
    original, calls = getattr(holder, name), itertools.count(1)

    @functools.wraps(original)
    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            happen(what)
        return original(*arguments, **options)

    setattr(holder, name, call)


def happen(what: str) -> None:
    try:
        Path(os.environ["HAPPENED"]).touch(exist_ok=False)
    except FileExistsError:
        return
    if what == "full":
        os.unlink(os.environ["FULL"])
        os.symlink("/dev/full", os.environ["FULL"])
        return
    if what == "hangup":
        os.kill(os.getppid(), signal.SIGUSR1)
        time.sleep(0.5)  # until there is no terminal any more
        return
    to, _, name = what.rpartition("-")
    if to == "limit":
        limit(int(name))
        return
    signum = signal.Signals[name]
    if to == "group":
        os.killpg(0, signum)
    elif to == "sweep" and multiprocessing.parent_process():
        os.kill(os.getppid(), signum)
    else:
        os.kill(os.getpid(), signum)
    if to == "twice":
        os.kill(os.getpid(), signum)


def limit(num_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def run_in_a_terminal() -> None:
    """Go on in a terminal of which this process keeps the other end, until it is told to close it."""
    child, terminal = pty.fork()
    if child == 0:
        return
    signal.signal(signal.SIGUSR1, lambda *_: os.close(terminal))
    with contextlib.suppress(OSError):  # it is closed, at either end
        while shown := os.read(terminal, 4096):
            os.write(1, shown)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def hear(signum: int, frame: FrameType | None) -> None:
    """Submitit requeues its job here."""
    saved = sorted(path.name for path in Path().rglob("*.ckpt"))
    Path(os.environ["HEARD"]).write_text(" ".join(saved))
    sys.exit(5)


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Frozen:
        return cls(2026, 1, 2, 3, 4, 5)


def start_many(count: int) -> None:
    """Go on as `count` processes for which it is the same second; the first process ends with the worst status."""
    hydra.core.utils.datetime = Frozen  # type: ignore[attr-defined] # what ${now:} asks
    children = []
    for _ in range(count):
        if not (child := os.fork()):
            return
        children.append(child)
    os._exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    where, count, what = sys.argv[1].split(":")
    sys.argv = [str(ROOT / "train.py"), *sys.argv[2:]]
    if where == "start":
        limit(int(what.removeprefix("limit-")))
    elif where != "nowhere":
        prepare(where, int(count), what)
    if what.startswith("group-"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the suite was started with
    signal.signal(signal.SIGHUP, signal.SIG_IGN if what.startswith("ignored-") else signal.SIG_DFL)
    if what == "awaited-SIGUSR2":
        signal.signal(signal.SIGUSR2, hear)
    if what == "hangup":
        run_in_a_terminal()
    os.chdir(os.environ.get("IN", "."))
    if clock := float(os.environ.get("CLOCK", "0")):
        true = time.time
        time.time = lambda: true() + clock
    if starts := int(os.environ.get("STARTS", "0")):
        start_many(starts)
    runpy.run_path(sys.argv[0], run_name="__main__")
