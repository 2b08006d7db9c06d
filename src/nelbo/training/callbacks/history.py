"""Learning curves in a file that anything can read."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import pytorch_lightning as pl

HISTORY = "history.csv"


class History(pl.Callback):
    """Writes `history.csv`: a row after each validation, with epoch, step, seconds and every `val/` metric.

    Args:
        folder: the run's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / HISTORY
        self._started = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What an earlier run left is not of this one."""
        self._started = time.perf_counter()
        if trainer.is_global_zero:
            self.file.unlink(missing_ok=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a row."""
        if not trainer.is_global_zero:
            return
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        seconds = round(time.perf_counter() - self._started, 3)
        row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "seconds": seconds, **values}
        new = not self.file.exists()
        with self.file.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)
