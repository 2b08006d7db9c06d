"""The report at the end of every sweep, whatever launched it."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

log = logging.getLogger(__name__)


class ReportCallback(Callback):
    """Writes `report.html` and all that belongs to it. Hydra turns an exception in here into a warning."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write, and say where."""
        from nelbo.sweeps.cells import PLAN
        from nelbo.sweeps.report import write_report  # brings matplotlib, which starting a run can do without

        sweep = Path(str(config.hydra.sweep.dir)).absolute()
        if not (sweep / PLAN).exists():  # another sweeper, which keeps no plan
            return
        try:
            log.info("report: %s", write_report(sweep))
        except Exception as error:
            again = shlex.join(["python", "scripts/report.py", f"sweep={sweep}"])
            print(f"the report could not be written: {type(error).__name__}: {error}; again: {again}", file=sys.stderr)
            raise
