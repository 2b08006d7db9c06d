"""Callbacks that end training, for runs with `allow_targets=[tests.]`."""

from __future__ import annotations

import pytorch_lightning as pl


class StopAfterBatches(pl.Callback):
    """Stops training after a total number of batches, counted over epochs and resumes."""

    def __init__(self, batches: int) -> None:
        self.remaining = batches

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.remaining -= 1
        if self.remaining <= 0:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, int]:
        return {"remaining": self.remaining}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.remaining = state_dict["remaining"]


class StopAfterEpochs(pl.Callback):
    """Stops training at the end of an epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 >= self.epochs:
            trainer.should_stop = True
