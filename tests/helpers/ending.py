"""Callbacks that end training, for runs with `allow_targets=[tests.]`."""

from __future__ import annotations

import pytorch_lightning as pl


class StopAfterBatches(pl.Callback):
    """Asks to stop once so many batches of all epochs are over; counts in its own state."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.left -= 1
        if self.left <= 0:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, int]:
        return {"left": self.left}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.left = state_dict["left"]


class StopAfterEpochs(pl.Callback):
    """Asks to stop when an epoch is over."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 >= self.epochs:
            trainer.should_stop = True
