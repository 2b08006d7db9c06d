"""best.ckpt and last.ckpt: when they are written, and how a run stops so that it can go on."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from nelbo.errors import Stopped
from nelbo.rewind import lengths
from nelbo.training.signals import Signals

MONITOR = "val/objective"
BEST, LAST = "best.ckpt", "last.ckpt"
SECONDS_BETWEEN_SAVES = 600.0
"""Within an epoch too, so that the longest one loses no more to a crash than this."""

LONG_VALIDATION = 1.0
"""Seconds that a signal may wait for the end of a validation."""

# What the loop of a validation says in its first batch: Lightning then goes on with the validation.
VALIDATION_BEGINS = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class Checkpoints(Checkpoint):
    """last.ckpt after validations, before long ones, and once a signal asks; best.ckpt at the lowest `val/objective`.

    Without a validation set the last is the best. Lightning calls it after all other callbacks, so what they log and
    draw in a step is part of the run that the checkpoint continues.

    Args:
        folder: where they are written.
        signals: which says whether to stop.
        every_n_epochs: how often, at the end of an epoch.
        validated: whether there is a validation set.
        best_is_lost: whether the best.ckpt of a run that goes on is not there, or damaged: the next is the best then.
    """

    def __init__(
        self, folder: Path, signals: Signals, *, every_n_epochs: int, validated: bool, best_is_lost: bool = False
    ) -> None:
        self.best, self.last = folder / BEST, folder / LAST
        self.signals, self.every_n_epochs, self.validated = signals, every_n_epochs, validated
        self.values: dict[str, float] = {}
        """Every validation metric of best.ckpt."""
        self._best_is_lost, self._over = best_is_lost, False
        self._saved = time.monotonic()
        self._validation_takes = math.inf
        self._validation_began = 0.0
        self._can_leave_validation = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the step to end; Lightning has put its own handlers in place of ours."""
        self.signals.catch(patient=True)
        if self._best_is_lost:
            self.values = {}
        if self._over:
            trainer.should_stop = True

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on there is nothing to save.

        Raises:
            Stopped: if a signal came since the last epoch.
        """
        self.signals.catch(patient=False)
        if self.signals.received:
            raise Stopped(self.signals.received)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Stop where a signal asks; after an epoch's last batch its validation comes first.

        Raises:
            Stopped: once the checkpoint is written.
        """
        signum, due = self._asked(trainer)
        gathering = (batch_idx + 1) % trainer.accumulate_grad_batches  # gradients are not saved
        if trainer.is_last_batch or gathering or _validation_comes(trainer, batch_idx) or not (signum or due):
            return
        self._save(trainer, self.last)
        if signum:
            raise Stopped(signum)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, so that a run that ends during its validation goes on with that; not before one that is over soon."""
        self._can_leave_validation = False
        if trainer.sanity_checking:
            return
        signum, due = self._asked(trainer, self._validation_takes > LONG_VALIDATION)
        if signum or due:
            self._save(trainer, self.last)
            self._can_leave_validation = True
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember how long it took."""
        self._validation_takes = time.monotonic() - self._validation_began

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop where a signal asks, if it is not over soon.

        Raises:
            Stopped: the checkpoint is there.
        """
        signum, _ = self._asked(trainer)
        if signum and self._can_leave_validation:
            raise Stopped(signum)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, when due.

        Raises:
            Stopped: once the checkpoint is written, if a signal asks.
        """
        signum, _ = self._asked(trainer)
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        # The best first: a run killed between the two goes on from the newer.
        if due and self._is_best(trainer):
            self._save(trainer, self.best)
        if due or signum:
            self._save(trainer, self.last)
        if signum:
            raise Stopped(signum)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add how long the logs are; and where a validation begins, say so: Lightning has not counted a batch of it."""
        checkpoint["logs"] = lengths(self.last.parent.parent)
        checkpoint["over"] = bool(trainer.should_stop)  # another callback ended training before its last epoch
        if trainer.validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            progress["total"], progress["current"] = dict(VALIDATION_BEGINS), dict(VALIDATION_BEGINS)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Whether training was over."""
        self._over = checkpoint["over"]

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.values = dict(state_dict["values"])

    def _is_best(self, trainer: pl.Trainer) -> bool:
        if not self.validated:
            return True
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        if self.values and not values[MONITOR] < self.values[MONITOR]:  # a NaN loses to every number
            return False
        self.values = values
        return True

    def _save(self, trainer: pl.Trainer, file: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # what is logged before a checkpoint is not logged again after it
        trainer.save_checkpoint(file, weights_only=False)
        self._saved = time.monotonic()

    def _asked(self, trainer: pl.Trainer, due: bool = False) -> tuple[int, bool]:
        """The signal that asks to stop, or 0, and whether a save is due: the same answer in every process."""
        asked = (self.signals.received, due or time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES)
        if trainer.world_size == 1:
            return asked
        told = torch.tensor(asked, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(told, op=torch.distributed.ReduceOp.MAX)
        signum, due = told.tolist()
        return signum, bool(due)


def _validation_comes(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether one begins in the middle of this epoch, after this batch."""
    every = trainer.val_check_batch
    return every is not None and (batch_idx + 1) % every == 0
