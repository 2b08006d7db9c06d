"""What Hydra calls: before a run, whose directory it will write to, and at the end of every sweep."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from nelbo.errors import ConfigError
from nelbo.terminal.programs import program

log = logging.getLogger(__name__)


class DirectoryCallback(Callback):
    """Ends a run that would write over what another program of Hydra's says of itself in the same directory.

    Hydra writes its own record (`.hydra`) there before the run is asked.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look, and end with exit status 2 if there is one."""
        from nelbo.errors import USAGE_ERROR  # which imports the rest of this room

        try:
            folder, record = Path(str(config.hydra.run.dir)), config.hydra.output_subdir
        except OmegaConfBaseException:  # Hydra will say it
            return
        if not record or not any((folder / record).glob("*.yaml")):
            return
        told = folder / record / "hydra.yaml"
        if not (told.is_file() and f"app_name: {config.hydra.help.app_name}" in told.read_text(errors="replace")):
            hint = f"holds {record} of another program already; give another directory"
            print(f"error: {ConfigError('hydra.run.dir', folder, hint)}", file=sys.stderr)
            sys.exit(USAGE_ERROR)


class ReportCallback(Callback):
    """Writes `report.html` and all that belongs to it. Hydra turns an exception in here into a warning."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write, and say where."""
        from nelbo.directories.owner import living_owner
        from nelbo.sweeps.cells.record import SWEEP, Plan
        from nelbo.sweeps.report.write import say_best, write_report  # brings matplotlib, which a run can do without

        sweep = Path(str(config.hydra.sweep.dir)).absolute()
        if not Plan.read(sweep).cells:  # it was refused before its first cell, or is another sweeper's, without a plan
            return
        if living_owner(sweep, SWEEP):  # it was refused this command, and writes its own
            return
        try:
            page = write_report(sweep, list(config.get("allow_targets") or ()))
            if line := say_best(sweep):
                log.info("%s", line)
            log.info("report: %s", page)
        except Exception as error:
            again = f"{program('report')} {shlex.quote(f'sweep={sweep}')}"
            print(f"the report could not be written: {type(error).__name__}: {error}; again: {again}", file=sys.stderr)
            raise
