"""best.ckpt and last.ckpt: when they are written, and how a run stops so that it can go on.

Lightning goes on exactly from three places: after a step within an epoch, in a validation (which is run again), and at
an epoch's end. A state between a validation within an epoch and the next step is written as the first of them.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from nelbo.directories.logs import lengths
from nelbo.errors import Stopped
from nelbo.training import compat
from nelbo.training.callbacks.ending import BY_CONFIG, Ending
from nelbo.training.signals import Signals

MONITOR = "val/objective"
BEST, LAST = "best.ckpt", "last.ckpt"
SECONDS_BETWEEN_SAVES = 600.0
"""Within an epoch too, so that the longest one loses no more to a crash than this."""

LONG_VALIDATION = 1.0
"""Seconds that a signal may wait for the end of a validation."""

Place = Literal["", "validation begins", "validation is over"]


class Checkpoints(Checkpoint):
    """last.ckpt after validations, before long ones, and once a signal asks; best.ckpt at the lowest `val/objective`.

    All validations count, also those within an epoch, before which last.ckpt is written too. The state with which
    training ends always has a validation, whatever the intervals say and whatever ends it.

    Without a validation set the last is the best. Lightning calls it after all other callbacks, so what they log and
    draw in a step is part of the run that the checkpoint continues.

    Args:
        folder: where they are written.
        signals: which says whether to stop.
        every_n_epochs: how often, at the end of an epoch, without a validation set.
        validated: whether there is a validation set.
        position: epochs that are over, and batches of the next one: elsewhere in a run that goes on.
        best_is_lost: whether the best.ckpt of a run that goes on is not there, or damaged: the next is the best then.
    """

    def __init__(
        self,
        folder: Path,
        signals: Signals,
        *,
        every_n_epochs: int,
        validated: bool,
        position: tuple[int, int] = (0, 0),
        best_is_lost: bool = False,
    ) -> None:
        self.best, self.last = folder / BEST, folder / LAST
        self.signals, self.every_n_epochs, self.validated = signals, every_n_epochs, validated
        self.ending = Ending(position)
        self.values: dict[str, float] = {}
        """Every validation metric of best.ckpt."""
        self._best_is_lost = best_is_lost
        self._saved = time.monotonic()
        self._validation_takes = math.inf
        self._validation_began = 0.0
        self._can_leave_validation = False
        self._validation_is_pending = False
        """Whether the run goes on from where a validation began."""
        self._validated_step = -1
        self._epoch_is_over = False
        self._place: Place = ""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A timer that has run out ends training before it begins: not without the validation that was begun."""
        if self._validation_is_pending:
            trainer.should_stop = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the step to end; Lightning has put its own handlers in place of ours."""
        self.signals.catch(patient=True)
        if self._best_is_lost:
            self.values = {}
        self.ending.begin(trainer)
        if self._validation_is_pending:
            self.ending.validate_next(trainer)
        elif self.ending.is_at_checkpoint(trainer) and self.ending.batches:
            # Lightning leaves at once, and the logs were cut to where the checkpoint was written.
            for callback in compat.callbacks_of(trainer):
                if not isinstance(callback, pl.callbacks.ProgressBar):
                    callback.on_train_epoch_end(trainer, pl_module)

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
        """Stop where a signal asks; after an epoch's last batch its validation comes first, and where training ends.

        Raises:
            Stopped: once the checkpoint is written.
        """
        ends = self.ending.note(trainer, batch_idx)
        if ends and self.validated:
            self.ending.validate_next(trainer)
        signum, due = self._asked(trainer)
        gathering = (batch_idx + 1) % trainer.accumulate_grad_batches  # gradients are not saved
        if trainer.is_last_batch or gathering or (self.validated and _validation_comes(trainer, batch_idx)):
            return
        if ends:
            self._save(trainer, self.best)
        if ends or signum or due:
            self._save(trainer, self.last)
        if signum:
            raise Stopped(signum)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, so that a run that ends during its validation goes on with that.

        Not before a short one at an epoch's end, which is written when it is over; but before all within an epoch, from
        whose end nothing goes on that was not decided by this validation.
        """
        self._can_leave_validation = False
        if trainer.sanity_checking or self._epoch_is_over:
            return
        if self._validation_is_pending:
            self.ending.resume_validation(trainer)
        within = not trainer.is_last_batch
        signum, due = self._asked(trainer, within or self._validation_takes > LONG_VALIDATION)
        if signum or due:
            self._save(trainer, self.last, "validation begins")
            self._can_leave_validation = True
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember how long it took; within an epoch, write what is the best."""
        if trainer.sanity_checking:
            return
        self._validation_takes = time.monotonic() - self._validation_began
        self.ending.put_intervals_back(trainer)
        self._validation_is_pending = False
        self._validated_step = trainer.global_step
        if not trainer.is_last_batch and self._is_best(trainer):
            self._save(trainer, self.best, "validation is over")

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
        if trainer.is_last_batch:  # else training ended within the epoch, and what there is to write is written
            ends = self.ending.is_at_epoch_end(trainer)
            if ends and self.validated and self._validated_step != trainer.global_step:
                self._validate_at_epoch_end(trainer)
            due = ends or (trainer.current_epoch + 1) % self.every_n_epochs == 0
            if self.validated:
                due = self._validated_step == trainer.global_step
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
        """Add how long the logs are, and say in Lightning's counts where in a validation this is."""
        checkpoint["logs"] = lengths(self.last.parent.parent)
        # Another callback ended training before its last epoch.
        checkpoint["over"] = bool(trainer.should_stop) and self.ending.reason(trainer) not in BY_CONFIG
        checkpoint["in_validation"] = self._place == "validation begins"
        if self._place == "validation begins":
            compat.resume_in_validation(checkpoint)
        if self._place == "validation is over":
            compat.resume_after_validation(checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Whether training was over, and where in it this is."""
        self.ending.was_ended = checkpoint["over"]
        self._validation_is_pending = checkpoint.get("in_validation", False)

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

    def _validate_at_epoch_end(self, trainer: pl.Trainer) -> None:
        """A callback has ended training when Lightning had decided already that this epoch has no validation.

        Nothing is written when it begins: a run that ends here makes the epoch's last steps again.
        """
        self._epoch_is_over = True
        compat.run_validation(trainer)
        self._epoch_is_over = False

    def _save(self, trainer: pl.Trainer, file: Path, place: Place = "") -> None:
        self._place = place
        for logger in trainer.loggers:
            logger.save()  # what is logged before a checkpoint is not logged again after it
        trainer.save_checkpoint(file, weights_only=False)
        self._place = ""
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
    epochs, every = compat.validation_intervals(trainer)
    if every is None or (epochs is not None and (trainer.current_epoch + 1) % epochs):
        return False
    return (compat.batches_started(trainer) if epochs is None else batch_idx + 1) % every == 0
