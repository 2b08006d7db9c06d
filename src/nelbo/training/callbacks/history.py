"""Learning curves as CSV files."""

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
    """Appends a row to `history.csv` and, if the KL of single latent units is defined, to `kl_per_unit.csv`.

    It does so after each validation. `history.csv` has the epoch, step, seconds and every `val/` metric;
    `kl_per_unit.csv` has the epoch and, as unit_0, unit_1, ..., the KL of each latent unit in nats, averaged over the
    validation set; with several levels of latents the columns are level_1_unit_0, ..., the top level first.

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
        """Return the seconds of training so far."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seconds of training so far."""
        self._before = state_dict["seconds"]

    def _seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Append the rows."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        seconds = round(self._seconds(), 3)
        append(self.file, {"epoch": epoch, "step": trainer.global_step, "seconds": seconds, **values})
        unit_kl: Tensor | None = getattr(pl_module, "unit_kl", None)
        if unit_kl is not None:
            nats = (float(f"{value:.6g}") for value in unit_kl.tolist())  # the precision of float32
            names: list[str] = pl_module.kl_per_unit.names()  # type: ignore[operator, union-attr]
            append(self.unit_file, {"epoch": epoch} | dict(zip(names, nats, strict=True)))


def append(file: Path, row: Mapping[str, float]) -> None:
    """Append a row to a CSV file, after a header if the file is new."""
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
