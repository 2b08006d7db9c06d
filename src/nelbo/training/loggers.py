"""Loggers of a run that may go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning import loggers

from nelbo.directories.logs import HISTORY, UNIT_HISTORY
from nelbo.training import compat

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
        Path(logger.log_dir, compat.AppendingWriter.NAME_METRICS_FILE)
        for logger in chosen
        if isinstance(logger, loggers.CSVLogger)
    ]
    boards = [Path(logger.log_dir) for logger in chosen if isinstance(logger, loggers.TensorBoardLogger)]
    return tuple(  # type: ignore[return-value]
        [place.relative_to(folder).as_posix() for place in places if place.is_relative_to(folder)]
        for places in (tables, boards)
    )


class CSVLogger(loggers.CSVLogger):
    """Lightning's, but a run that goes on keeps its rows."""

    @property
    @rank_zero_experiment
    def experiment(self) -> compat.AppendingWriter:
        """The writer."""
        return compat.appending_writer(self)
