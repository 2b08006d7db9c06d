"""The validation metrics of the best checkpoint."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

MONITOR = "val/objective"


class BestMetrics(pl.Callback):
    """Remembers every validation metric of the epoch whose `val/objective` is lowest: that of best.ckpt."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare."""
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        # A NaN loses to every number, as it does in ModelCheckpoint.
        if not self.values or not self.values[MONITOR] <= values[MONITOR]:
            self.values = values

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.values = dict(state_dict["values"])
