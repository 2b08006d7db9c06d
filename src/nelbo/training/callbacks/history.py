"""Learning curves in files that anything can read."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from nelbo.directories.logs import HISTORY, UNIT_HISTORY


class History(pl.Callback):
    """Writes a row after each validation into `history.csv` and, where it has a meaning, into `kl_per_unit.csv`.

    The first has epoch, step, seconds and every `val/` metric; the second epoch and the KL of each latent unit in nats,
    averaged over the validation set: unit_0, unit_1, ...

    Args:
        folder: the run's directory.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self.unit_file = folder / HISTORY, folder / UNIT_HISTORY
        self._started = 0.0
        self._before = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self._before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the rows."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        seconds = round(self._seconds(), 3)
        append(self.file, {"epoch": epoch, "step": trainer.global_step, "seconds": seconds, **values})
        unit_kl: Tensor | None = getattr(pl_module, "unit_kl", None)
        if unit_kl is not None:
            nats = (float(f"{value:.6g}") for value in unit_kl.tolist())  # float32 has no more digits
            append(self.unit_file, {"epoch": epoch} | {f"unit_{unit}": value for unit, value in enumerate(nats)})


def append(file: Path, row: Mapping[str, float]) -> None:
    """Add a row to a CSV file, below a header if it is the first."""
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
