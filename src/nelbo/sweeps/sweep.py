"""A sweep: which cells are missing, running them through any launcher, and the account at its end."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from nelbo.composing.script import Script
from nelbo.config.identity import identity
from nelbo.config.quoting import quoted
from nelbo.directories.owner import DirectoryInUse, Ownership, is_held, living_owner
from nelbo.errors import ConfigError, Stopped, first_line
from nelbo.messages.unread import refuse_unread
from nelbo.running.directory import refuse_files
from nelbo.sweeps import compat
from nelbo.sweeps.cells.names import cell_name
from nelbo.sweeps.cells.record import (
    CELL,
    PLAN,
    SWEEP,
    VANISHED,
    Cell,
    Plan,
    SweepError,
    read_cells,
    update_record,
)
from nelbo.sweeps.job import plain_config
from nelbo.sweeps.live import LiveTable

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 1.0
WRITTEN = ("results.csv", "results.json", "report.html", "report", "tensorboard", "optuna.json", "optuna.db")
"""What the report and a search write into the directory of a sweep."""


class Sweep:
    """The cells of one command in one directory, which the command owns while it is in this context.

    Args:
        config: the composed config of the sweep itself.
        hydra_context: Hydra's config loader and callbacks.
        launcher: what runs jobs.
        swept: the keys whose values differ, for names.
        words: the command line, as it is written down.
    """

    def __init__(
        self,
        config: DictConfig,
        hydra_context: HydraContext,
        launcher: Launcher,
        swept: Sequence[str],
        words: Sequence[str],
    ) -> None:
        self.words = words
        self.config, self.hydra_context, self.launcher, self.swept = config, hydra_context, launcher, swept
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.launched = 0

    def __enter__(self) -> Sweep:
        """Take the directory and read its plan.

        Raises:
            SweepError: if another sweep is running in it.
            OSError: if it cannot be written.
        """
        new = not (self.folder / PLAN).exists()  # so far it is not the directory of a sweep
        if new:
            refuse_files(self.folder, WRITTEN, key="hydra.sweep.dir")
        self.folder.mkdir(parents=True, exist_ok=True)
        # Processes are forked from this one: no thread, but whoever waits for cells touches the file.
        self.ownership = Ownership(self.folder, SWEEP, touch_in_thread=False)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.ownership)
            except DirectoryInUse as error:
                hint = f"another sweep is running in it; wait for that, or give another directory ({error.owner})"
                raise SweepError(f"hydra.sweep.dir={self.folder}: {hint}") from error
            self.plan = Plan.read(self.folder)
            if new:  # before any other file: a command that is refused or killed leaves a directory that it can use
                self.plan.write(self.folder)
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
            self.plan.command = ["python", *self.words]
            self.plan.newest = []
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def ask(self, job: Sequence[str]) -> tuple[str, list[str]]:
        """A cell's identity, and its overrides with the directory that it shall use.

        Raises:
            HydraException: if the job's config cannot be composed.
            ConfigError: if nothing reads one of its keys.
        """
        key = identity(plain_config(self.compose(job)))
        name = self.plan.add(key, cell_name(job, self.swept, key), job)
        if key not in self.plan.newest:
            self.plan.newest.append(key)
        return key, [*job, f"hydra.sweep.subdir={quoted(name)}"]

    def compose(self, job: Sequence[str]) -> DictConfig:
        """The config of a job.

        Raises:
            HydraException: if it cannot be composed.
            ConfigError: if nothing reads one of its keys.
        """
        self.ownership.touch()
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
        refuse_unread(composed, Script.running(self.config))
        return composed

    def run(self, jobs: Sequence[Sequence[str]], max_batch_size: int | None) -> None:
        """Run the jobs that are not done; end with the account.

        Raises:
            SweepError: if cells failed.
            SystemExit: if it was told to stop.
        """
        asked = dict(self.ask(job) for job in jobs)
        if len(asked) < len(jobs):
            log.info("%d of %d cells are the same as others of this sweep", len(jobs) - len(asked), len(jobs))
        self.plan.write(self.folder)
        missing = [cell.identity for cell in self.cells() if cell.state not in ("done", "running")]
        log.info("%d cells, %d to run, in %s", len(asked), len(missing), self.folder)
        size = max_batch_size or max(1, len(missing))
        for start in range(0, len(missing), size):
            self.launch([asked[key] for key in missing[start : start + size]])
        self.account()

    def cells(self) -> list[Cell]:
        """What this command asked for, as it stands."""
        return read_cells(self.folder, self.plan.newest)

    def launch(self, jobs: Sequence[list[str]]) -> None:
        """Run jobs, whatever becomes of them.

        Raises:
            SystemExit: if it was told to stop.
        """
        before = {cell.identity: cell.record.get("started") for cell in self.cells()}
        with (
            stoppable(self.how_to_go_on) as signums,
            LiveTable(self.folder, self.plan.newest) as table,
            watched(self.launcher, table.refresh, self.ownership.touch),
        ):
            try:
                self.launcher.launch(jobs, initial_job_idx=self.launched)
            except ConfigError:  # of the launcher's own numbers: no cell was started
                raise
            except Exception as error:  # the engine's own: jobs report theirs in their directories
                if signums:  # raised by what the signal interrupted, in the place of `Stopped`
                    raise Stopped(signums[0]) from error
                log.error("error: the launcher broke: %s: %s", type(error).__name__, first_line(error))
            else:
                self.close_records(before)
        self.launched += len(jobs)

    def close_records(self, before: Mapping[str, float | None]) -> None:
        """Once the launcher says that its jobs are over: a cell of theirs that has not recorded its end is dead.

        Args:
            before: by identity, when the cells had started last before the launch.
        """
        for cell in self.cells():
            ours = cell.record.get("started") != before[cell.identity]
            if ours and cell.record.get("state") == "running" and not is_held(cell.folder / f"{CELL}.lock"):
                update_record(cell.folder, state="failed", error=VANISHED, ended=time.time())

    def account(self) -> None:
        """Say how it went.

        Raises:
            SweepError: if cells failed.
        """
        cells = self.cells()
        bad = [cell for cell in cells if cell.state not in ("done", "pruned")]
        for cell in bad:
            reason = cell.error or "was not started"
            if cell.state == "running":
                reason = f"another process is running it ({living_owner(cell.folder, CELL)})"
            log.error("%s %s\n  error: %s", cell.state, cell.folder.name, reason)
        if bad:
            raise SweepError(f"{len(bad)} of {len(cells)} cells are not done; {self.how_to_go_on()}")
        log.info("all %d cells are done", len(cells))

    def how_to_go_on(self) -> str:
        """The command that runs what is missing."""
        place = f"hydra.sweep.dir={quoted(str(self.folder))}"
        command = self.plan.command
        if not any(word.startswith("hydra.sweep.dir=") for word in command):
            command = [*command, place]
        return f"the same command in the same directory runs only those: {shlex.join(command)}"


@contextlib.contextmanager
def stoppable(advice: Callable[[], str]) -> Iterator[list[int]]:
    """SIGTERM, SIGHUP and Ctrl-C end the sweep with a line and the status that a shell expects.

    Yields:
        The numbers of the signals that came, but for Ctrl-C's.
    """
    signums: list[int] = []

    def raise_stopped(signum: int, frame: FrameType | None) -> None:
        signums.append(signum)
        raise Stopped(signum)

    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    for which, handler in previous.items():
        if handler != signal.SIG_IGN:  # as it is below nohup
            signal.signal(which, raise_stopped)
    try:
        yield signums
    except (Stopped, KeyboardInterrupt) as stopped:
        signum = stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT
        log.error("stopped by %s; %s", signal.Signals(signum).name, advice())
        sys.exit(128 + signum)
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


@contextlib.contextmanager
def watched(launcher: Launcher, look: Callable[[], None], touch: Callable[[], None]) -> Iterator[None]:
    """While a launcher works: `look` redraws the table, `touch` shows other machines that the sweep is alive.

    Our launcher calls them as it waits, for it forks, and a thread calls them beside others. A basic one speaks for
    itself.
    """
    if hasattr(launcher, "tick"):

        def tick() -> None:
            touch()
            look()

        launcher.tick = tick
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            touch()
            if not compat.is_basic_launcher(launcher):
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
