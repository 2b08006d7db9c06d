"""A sweep: which cells are missing, running them through any launcher, and the account at its end."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from nelbo.directory import quoted
from nelbo.errors import ConfigError, Stopped, first_line
from nelbo.identity import identity
from nelbo.messages.configs import Script
from nelbo.messages.unread import refuse_unread
from nelbo.sweeps.cells import Cell, Plan, SweepError, read_cells
from nelbo.sweeps.job import plain_config
from nelbo.sweeps.live import LiveTable
from nelbo.sweeps.names import cell_name

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 1.0
UNTOLD = {"pending": "was not started", "running": "another process is running it"}


class Sweep:
    """The cells of one command in one directory.

    Args:
        config: the composed config of the sweep itself.
        hydra_context: Hydra's config loader and callbacks.
        launcher: what runs jobs.
        swept: the keys whose values differ, for names.
    """

    def __init__(
        self, config: DictConfig, hydra_context: HydraContext, launcher: Launcher, swept: Sequence[str]
    ) -> None:
        self.config, self.hydra_context, self.launcher, self.swept = config, hydra_context, launcher, swept
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, self.folder / "multirun.yaml")
        self.plan = Plan.read(self.folder)
        self.plan.command = ["python", *sys.argv]
        self.plan.newest = []
        self.launched = 0

    def ask(self, job: Sequence[str]) -> tuple[str, list[str]]:
        """A cell's identity, and its overrides with the directory that it shall use.

        Raises:
            HydraException: if the job's config cannot be composed.
            ConfigError: if nothing reads one of its keys.
        """
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
        refuse_unread(composed, Script.running(self.config))
        key = identity(plain_config(composed))
        name = self.plan.add(key, cell_name(job, self.swept, key), job)
        if key not in self.plan.newest:
            self.plan.newest.append(key)
        return key, [*job, f"hydra.sweep.subdir={quoted(name)}"]

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
        with (
            stoppable(self.how_to_go_on),
            LiveTable(self.folder, self.plan.newest) as table,
            watched(self.launcher, table),
        ):
            try:
                self.launcher.launch(jobs, initial_job_idx=self.launched)
            except ConfigError:  # of the launcher's own numbers: no cell was started
                raise
            except Exception as error:  # the engine's own: jobs report theirs in their directories
                log.error("error: the launcher broke: %s: %s", type(error).__name__, first_line(error))
        self.launched += len(jobs)

    def account(self) -> None:
        """Say how it went.

        Raises:
            SweepError: if cells failed.
        """
        cells = self.cells()
        bad = [cell for cell in cells if cell.state not in ("done", "pruned")]
        for cell in bad:
            told = cell.error or UNTOLD.get(cell.state, "")
            log.error("%s %s\n  error: %s", cell.state, cell.folder.name, told)
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
def stoppable(advice: Any) -> Iterator[None]:
    """SIGTERM, SIGHUP and Ctrl-C end the sweep with a line and the status that a shell expects."""

    def raise_stopped(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)

    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    for which, handler in previous.items():
        if handler != signal.SIG_IGN:  # as it is below nohup
            signal.signal(which, raise_stopped)
    try:
        yield
    except (Stopped, KeyboardInterrupt) as stopped:
        signum = stopped.signum if isinstance(stopped, Stopped) else signal.SIGINT
        log.error("stopped by %s; %s", signal.Signals(signum).name, advice())
        sys.exit(128 + signum)
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


@contextlib.contextmanager
def watched(launcher: Launcher, table: LiveTable) -> Iterator[None]:
    """The table is redrawn by our launcher as it waits, and beside others; a basic one speaks for itself."""
    if hasattr(launcher, "tick"):
        launcher.tick = table.refresh
        yield
        return
    if isinstance(launcher, BasicLauncher):
        yield
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            table.refresh()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
