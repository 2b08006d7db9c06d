"""Callbacks of Hydra: the check of a run's directory before the run, and the report at the end of a sweep."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nelbo.errors import USAGE_ERROR, ConfigError
from nelbo.sweeps.job import external_world_size
from nelbo.terminal.programs import program

log = logging.getLogger(__name__)

OTHERS_WRITE_SECONDS = 5.0
"""How long a process that torchrun or srun started waits for a record that the others of its run may be writing."""


class DirectoryCallback(Callback):
    """Refuses a run whose directory holds Hydra's record (`.hydra`) of another program.

    Hydra would overwrite that record before the run itself can check its directory. Every process of a run under
    torchrun or srun writes it, so each may find one that another of them has begun.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the directory of a run; exit with status 2 if it holds the record of another program."""
        try:
            folder, record = Path(str(config.hydra.run.dir)), config.hydra.output_subdir
        except OmegaConfBaseException:  # Hydra raises it again, and the command reports it
            return
        if not record:
            return
        ours = f"app_name: {config.hydra.help.app_name}"
        until = time.monotonic() + (OTHERS_WRITE_SECONDS if external_world_size() > 1 else 0.0)
        while _is_of_another_program(folder / record, ours):
            if time.monotonic() >= until:
                hint = f"holds {record} of another program; give another directory"
                print(f"error: {ConfigError('hydra.run.dir', folder, hint)}", file=sys.stderr)
                sys.exit(USAGE_ERROR)
            time.sleep(0.05)


def _is_of_another_program(record: Path, ours: str) -> bool:
    """Return whether a record of Hydra has files, but none that says that it is ours."""
    if not any(record.glob("*.yaml")):
        return False
    previous = record / "hydra.yaml"
    return not (previous.is_file() and ours in previous.read_text(errors="replace"))


class ReportCallback(Callback):
    """Writes the report at the end of a sweep. Hydra turns an exception that it raises into a warning."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report, and log the best setting and where the report is."""
        from nelbo.directories.owner import living_owner
        from nelbo.sweeps.cells.record import SWEEP, Plan
        from nelbo.sweeps.report.write import say_best, write_report  # imports matplotlib, which runs do not need

        sweep = Path(str(config.hydra.sweep.dir)).absolute()
        if not Plan.read(sweep).cells:  # the sweep was refused before its first cell, or has a sweeper without a plan
            return
        if living_owner(sweep, SWEEP):  # this command was refused, because another one runs a sweep here
            return
        try:
            page = write_report(sweep, list(config.get("allow_targets") or ()))
            if line := say_best(sweep):
                log.info("%s", line)
            log.info("report: %s", page)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            hint = f"to write it again: {program('report')} {shlex.quote(f'sweep={sweep}')}"
            print(f"the report could not be written: {reason}; {hint}", file=sys.stderr)
            raise
