"""Loggers of a run that may go on."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning import loggers
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from nelbo.directories.logs import HISTORY, UNIT_HISTORY

__all__ = ["CSVLogger"]


def log_names(chosen: Sequence[loggers.Logger], folder: Path, *, validated: bool) -> tuple[list[str], list[str]]:
    """Names from a run's directory of the tables that it will write, and of the folders with TensorBoard's files.

    Args:
        chosen: the loggers of the run.
        folder: its directory.
        validated: whether there is a validation set, and so a history.
    """
    tables = [folder / HISTORY, folder / UNIT_HISTORY] if validated else []
    tables += [
        Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
        for logger in chosen
        if isinstance(logger, loggers.CSVLogger)
    ]
    boards = [Path(logger.log_dir) for logger in chosen if isinstance(logger, loggers.TensorBoardLogger)]
    return tuple(  # type: ignore[return-value]
        [place.relative_to(folder).as_posix() for place in places if place.is_relative_to(folder)]
        for places in (tables, boards)
    )


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
