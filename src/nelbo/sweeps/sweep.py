"""A sweep in its directory: the plan of its cells, and the launching of those that are not done."""

from __future__ import annotations

import contextlib
import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from nelbo.composing.command import Command
from nelbo.config.identity import identity
from nelbo.config.quoting import quoted
from nelbo.directories.owner import DirectoryInUse, Ownership, is_held, living_owner
from nelbo.errors import ConfigError, Stopped, first_line
from nelbo.messages.unused import refuse_unused_keys
from nelbo.running.directory import refuse_files
from nelbo.sweeps.cells.names import cell_name
from nelbo.sweeps.cells.record import (
    CELL,
    PLAN,
    SWEEP,
    VANISHED,
    Cell,
    Plan,
    SweepError,
    cells_of,
    read_cells,
    update_record,
)
from nelbo.sweeps.composition import Composition
from nelbo.sweeps.job import plain_config
from nelbo.sweeps.live import LiveTable
from nelbo.sweeps.report.origin import ORIGIN
from nelbo.sweeps.waiting import exit_on_signals, polled
from nelbo.terminal.programs import own_program

log = logging.getLogger(__name__)

WRITTEN = ("results.csv", "results.json", "report.html", "report", "tensorboard", "optuna.json", "optuna.db")
"""The files that the report and a search write into the directory of a sweep."""


class Sweep:
    """Context manager in which a command owns the directory of a sweep and runs cells there.

    Args:
        config: the composed config of the sweep itself.
        hydra_context: Hydra's config loader and callbacks.
        launcher: the launcher that runs jobs.
        swept: the keys whose values differ between cells, for the names of their directories.
        argv: the command line to record, as in `sys.argv`.
        home: the directory that the user gives and the command owns, if that of the cells is a folder in it.
    """

    def __init__(
        self,
        config: DictConfig,
        hydra_context: HydraContext,
        launcher: Launcher,
        swept: Sequence[str],
        argv: Sequence[str],
        home: Path | None = None,
    ) -> None:
        self.argv = argv
        self.config, self.launcher, self.swept = config, launcher, swept
        self.hydra_context = hydra_context
        self.folder = Path(str(config.hydra.sweep.dir)).absolute()
        self.home = home or self.folder
        self.launched = 0

    @cached_property
    def composition(self) -> Composition:
        """The configs of the jobs."""
        return Composition(self.hydra_context.config_loader, self.config)

    @cached_property
    def command(self) -> Command:
        """The command, which reads the files of all groups: one for all jobs."""
        return Command.running(self.config)

    def __enter__(self) -> Sweep:
        """Take ownership of the directory and read its plan.

        Raises:
            ConfigError: if the directory holds something else.
            SweepError: if another sweep is running in the directory.
            OSError: if the directory cannot be written.
        """
        if (self.folder / ORIGIN).exists():
            hint = "holds the settings of one training (hydra/sweeper=surface); give another directory"
            raise ConfigError("hydra.sweep.dir", self.folder, hint, located=True)
        new = not (self.folder / PLAN).exists()
        if new:
            refuse_files(self.folder, WRITTEN, key="hydra.sweep.dir")
        self.folder.mkdir(parents=True, exist_ok=True)
        # This process forks, so the owner's file is touched while waiting for cells and not by a thread.
        self.ownership = Ownership(self.home, SWEEP, touch_in_thread=False)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.ownership)
            except DirectoryInUse as error:
                hint = f"another sweep is running in it; wait for its end, or give another directory ({error.owner})"
                raise SweepError(f"hydra.sweep.dir={self.home}: {hint}") from error
            self.plan = Plan.read(self.folder)
            if new:  # before any other file, so that the directory stays usable if this command is refused or killed
                self.plan.write(self.folder)
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
            self.plan.command = [*shlex.split(own_program()), *self.argv[1:]]
            self.plan.newest = []
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def request(self, job: Sequence[str]) -> tuple[str, list[str]]:
        """Add a job to the plan, and return its identity and its overrides, which include the cell's directory.

        Args:
            job: the overrides of the job.

        Raises:
            HydraException: if the job's config cannot be composed.
            ConfigError: if one of its keys is not used by anything.
        """
        composed = self.compose(job)
        key = identity(plain_config(composed))
        name = self.plan.add(key, cell_name(job, self.swept, key), job)
        if key not in self.plan.newest:
            self.plan.newest.append(key)
        return key, self.composition.keep(job, f"hydra.sweep.subdir={quoted(name)}")

    def compose(self, job: Sequence[str]) -> DictConfig:
        """Compose the config of a job.

        Raises:
            HydraException: if it cannot be composed.
            ConfigError: if one of its keys is not used by anything.
        """
        self.ownership.touch()
        composed = self.composition.compose(job)
        refuse_unused_keys(composed, self.command)
        return composed

    def run(self, jobs: Sequence[Sequence[str]], max_batch_size: int | None) -> None:
        """Run the jobs whose cells are not done, and check that all are done afterwards.

        Args:
            jobs: the overrides of each job.
            max_batch_size: the number of jobs to launch together; None for all.

        Raises:
            SweepError: if cells are not done.
            SystemExit: if the process received a signal to stop.
        """
        requested = dict(self.request(job) for job in jobs)
        if len(requested) < len(jobs):
            log.info("%d of %d cells repeat other cells of this sweep", len(jobs) - len(requested), len(jobs))
        self.plan.write(self.folder)
        missing = [cell.identity for cell in self.cells() if cell.state not in ("done", "running")]
        log.info("%s, %d to run, in %s", cells_of(len(requested)), len(missing), self.folder)
        size = max_batch_size or max(1, len(missing))
        for start in range(0, len(missing), size):
            self.launch([requested[key] for key in missing[start : start + size]])
        self.check_cells()

    def cells(self) -> list[Cell]:
        """Return the cells that this command requested, in their current state."""
        return read_cells(self.folder, self.plan.newest)

    def launch(self, jobs: Sequence[list[str]]) -> None:
        """Launch jobs and wait for their end. Failed jobs are recorded in their cells and do not raise.

        Args:
            jobs: the overrides of each job.

        Raises:
            ConfigError: if the launcher's own config is invalid.
            SystemExit: if the process received a signal to stop.
        """
        before = {cell.identity: cell.record.get("started") for cell in self.cells()}
        with (
            exit_on_signals(self.how_to_resume) as signums,
            LiveTable(self.folder, self.plan.newest) as table,
            polled(self.launcher, table.refresh, self.ownership.touch),
        ):
            try:
                if hasattr(self.launcher, "compose"):
                    self.launcher.compose = self.composition.take
                self.launcher.launch(jobs, initial_job_idx=self.launched)
            except ConfigError:  # no cell was started
                raise
            except Exception as error:  # of the launcher; errors of jobs are recorded in their directories
                if signums:  # the interrupted code has replaced `Stopped` by an exception of its own
                    raise Stopped(signums[0]) from error
                log.error("error: the launcher failed: %s: %s", type(error).__name__, first_line(error))
            else:
                self.close_records(before)
        self.launched += len(jobs)

    def close_records(self, before: Mapping[str, float | None]) -> None:
        """Record as failed the cells of the last launch that have not recorded an end, now that their jobs are over.

        Args:
            before: when each cell had last started before the launch, by identity; None if never.
        """
        for cell in self.cells():
            ours = cell.record.get("started") != before[cell.identity]
            if ours and cell.record.get("state") == "running" and not is_held(cell.folder / f"{CELL}.lock"):
                update_record(cell.folder, state="failed", error=VANISHED, ended=time.time())

    def check_cells(self) -> None:
        """Log the cells that are neither done nor pruned, with their errors.

        Raises:
            SweepError: if there are any.
        """
        cells = self.cells()
        unfinished = [cell for cell in cells if cell.state not in ("done", "pruned")]
        for cell in unfinished:
            reason = cell.error or "was not started"
            if cell.state == "running":
                reason = f"another process is running it ({living_owner(cell.folder, CELL)})"
            log.error("%s %s\n  error: %s", cell.state, cell.folder.name, reason)
        if unfinished:
            raise SweepError(f"{len(unfinished)} of {len(cells)} cells are not done; {self.how_to_resume()}")
        log.info("all %d cells are done" if len(cells) > 1 else "%d cell is done", len(cells))

    def how_to_resume(self) -> str:
        """Return a hint with the command that runs the cells that are not done."""
        command = self.plan.command
        if not any(argument.startswith("hydra.sweep.dir=") for argument in command):
            command = [*command, f"hydra.sweep.dir={quoted(str(self.home))}"]
        return f"to run the remaining cells: {shlex.join(command)}"
