"""Loggers that continue their files when a run is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning import loggers

from nelbo.directories.logs import HISTORY, UNIT_HISTORY
from nelbo.training import compat

__all__ = ["CSVLogger"]


def log_names(chosen: Sequence[loggers.Logger], folder: Path, *, validated: bool) -> tuple[list[str], list[str]]:
    """Return the CSV tables that a run will write, and the folders of its TensorBoard files, relative to its directory.

    Args:
        chosen: the loggers of the run.
        folder: the run's directory.
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
    """Lightning's CSV logger, which keeps the rows of its table when a run is resumed."""

    @property
    @rank_zero_experiment
    def experiment(self) -> compat.AppendingWriter:
        """The writer of the table."""
        return compat.appending_writer(self)
