"""Loggers of a run that may go on."""

from __future__ import annotations

import csv
import os

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning import loggers
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

__all__ = ["CSVLogger"]


class AppendingWriter(ExperimentWriter):
    """Goes on with the table that is there: the run's own, up to its checkpoint. Lightning's deletes it."""

    def _check_log_dir_exists(self) -> None:
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as stream:
                self.metrics_keys = next(csv.reader(stream), [])


class CSVLogger(loggers.CSVLogger):
    """Lightning's, but a run that goes on keeps its rows."""

    @property
    @rank_zero_experiment
    def experiment(self) -> AppendingWriter:
        """The writer."""
        if not isinstance(self._experiment, AppendingWriter):
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = AppendingWriter(log_dir=self.log_dir)
        return self._experiment
