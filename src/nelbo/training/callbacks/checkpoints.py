"""The callback that writes best.ckpt and last.ckpt, and that stops a run at a signal so that it can be resumed.

Lightning resumes exactly from three places: after a step within an epoch, in a validation (which is repeated), and at
the end of an epoch. A state between a validation within an epoch and the next step is written as the first of these.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from nelbo.directories.logs import lengths
from nelbo.errors import Stopped
from nelbo.training import compat
from nelbo.training.callbacks.ending import BY_CONFIG, Ending
from nelbo.training.callbacks.requests import Requests
from nelbo.training.signals import Signals

MONITOR = "val/objective"
BEST, LAST = "best.ckpt", "last.ckpt"
SECONDS_BETWEEN_SAVES = 600.0
"""Interval between checkpoints within an epoch, which bounds the training time that a crash loses."""

LONG_VALIDATION = 1.0
"""Seconds from which a validation is too long for a signal to wait for its end."""

Place = Literal["", "validation begins", "validation is over"]
"""Where in an epoch a checkpoint is written; empty where Lightning's own counts are right."""


class Checkpoints(Checkpoint):
    """Writes best.ckpt at the lowest `val/objective`, and last.ckpt after validations, before long ones, at signals.

    All validations count, also those within an epoch, before which last.ckpt is written too. The state with which
    training ends is always validated, whatever the intervals are and whatever ends it. Without a validation set the
    last checkpoint is the best one.

    Lightning calls this callback after all others, so a checkpoint includes what they log and draw in the same step.

    Args:
        folder: the directory of the checkpoints.
        signals: the signals that may ask the run to stop.
        every_n_epochs: number of epochs between checkpoints without a validation set.
        validated: whether there is a validation set.
        position: completed epochs, and batches of the next one, at the start; (0, 0) in a new run.
        best_is_lost: whether best.ckpt of a resumed run is missing or damaged; the next validation is then the best.
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
        """The validation metrics of best.ckpt, by name."""
        self._best_is_lost = best_is_lost
        self._saved = time.monotonic()
        self._shared: Requests | None = None
        self._validation_seconds = math.inf
        self._validation_start = 0.0
        self._can_leave_validation = False
        self._validation_is_pending = False
        """Whether the run resumes where a validation began."""
        self._validated_step = -1
        self._epoch_is_over = False
        self._place: Place = ""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let an interrupted validation finish even if a timer that has run out would end training before it."""
        if self._validation_is_pending:
            trainer.should_stop = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Defer signals to the end of a step from here on; our handlers replace those that Lightning has installed."""
        self.signals.install(deferred=True)
        if self._best_is_lost:
            self.values = {}
        self.ending.begin(trainer)
        if self._validation_is_pending:
            self.ending.validate_next(trainer)
        elif self.ending.is_at_checkpoint(trainer) and self.ending.batches:
            # Lightning ends immediately, and the logs were truncated to the step of the checkpoint.
            for callback in compat.callbacks_of(trainer):
                if not isinstance(callback, pl.callbacks.ProgressBar):
                    callback.on_train_epoch_end(trainer, pl_module)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let signals stop the run immediately from here on, because there is nothing to save.

        Raises:
            Stopped: if a signal has arrived since the last epoch.
        """
        self.signals.install(deferred=False)
        if self.signals.received:
            raise Stopped(self.signals.received)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Write a checkpoint if one is due or a signal asks for it, unless a validation follows this batch.

        Raises:
            Stopped: after the checkpoint is written, if a signal asks for it.
        """
        ends = self.ending.count_batch(trainer, batch_idx)
        if ends and self.validated:
            self.ending.validate_next(trainer)
        signum, due = self._requests(trainer)
        within_update = (batch_idx + 1) % trainer.accumulate_grad_batches  # gradients are not saved
        if trainer.is_last_batch or within_update or (self.validated and _validation_follows(trainer, batch_idx)):
            return
        if ends:
            self._save(trainer, self.best)
        if ends or signum or due:
            self._save(trainer, self.last)
        if signum:
            raise Stopped(signum)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint from which a run that ends during this validation resumes with it.

        A short validation at the end of an epoch needs none, because the checkpoint after it follows soon. Every
        validation within an epoch needs one, because after it only best.ckpt is written, and only if it is the best.
        """
        self._can_leave_validation = False
        if trainer.sanity_checking or self._epoch_is_over:
            return
        if self._validation_is_pending:
            self.ending.resume_validation(trainer)
        within = not trainer.is_last_batch
        due = within or self._validation_seconds > LONG_VALIDATION
        signum, due = self._requests(trainer, due, at_once=True)
        if signum or due:
            self._save(trainer, self.last, "validation begins")
            self._can_leave_validation = True
        self._validation_start = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the validation's duration and step; within an epoch, write best.ckpt if it is the best."""
        if trainer.sanity_checking:
            return
        self._validation_seconds = time.monotonic() - self._validation_start
        self.ending.restore_intervals(trainer)
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
        """Stop at a signal, if a checkpoint was written when the validation began.

        Raises:
            Stopped: if a signal asks for it.
        """
        signum, _ = self._requests(trainer)
        if signum and self._can_leave_validation:
            raise Stopped(signum)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write checkpoints at the end of an epoch, if they are due.

        Raises:
            Stopped: after the checkpoint is written, if a signal asks for it.
        """
        signum, _ = self._requests(trainer, at_once=True)
        if trainer.is_last_batch:  # otherwise training ended within the epoch, after its checkpoints were written
            ends = self.ending.is_at_epoch_end(trainer)
            if ends and self.validated and self._validated_step != trainer.global_step:
                self._validate_at_epoch_end(trainer)
            due = ends or (trainer.current_epoch + 1) % self.every_n_epochs == 0
            if self.validated:
                due = self._validated_step == trainer.global_step
            # best.ckpt first: a run that is killed between the two resumes from the newer one.
            if due and self._is_best(trainer):
                self._save(trainer, self.best)
            if due or signum:
                self._save(trainer, self.last)
        if signum:
            raise Stopped(signum)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the lengths of the logs, and correct Lightning's counts for a checkpoint at a validation."""
        checkpoint["logs"] = lengths(self.last.parent.parent)
        # Whether another callback ended training before its last epoch.
        checkpoint["over"] = bool(trainer.should_stop) and self.ending.reason(trainer) not in BY_CONFIG
        checkpoint["in_validation"] = self._place == "validation begins"
        if self._place == "validation begins":
            compat.resume_in_validation(checkpoint)
        if self._place == "validation is over":
            compat.resume_after_validation(checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore whether a callback had ended training, and whether a validation was to be repeated."""
        self.ending.was_ended = checkpoint["over"]
        self._validation_is_pending = checkpoint.get("in_validation", False)

    def state_dict(self) -> dict[str, Any]:
        """Return the validation metrics of best.ckpt."""
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the validation metrics of best.ckpt."""
        self.values = dict(state_dict["values"])

    def _is_best(self, trainer: pl.Trainer) -> bool:
        if not self.validated:
            return True
        values = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        if self.values and not values[MONITOR] < self.values[MONITOR]:  # NaN is not lower than any value
            return False
        self.values = values
        return True

    def _validate_at_epoch_end(self, trainer: pl.Trainer) -> None:
        """Validate the last state if a callback ended training after Lightning decided not to validate this epoch.

        No checkpoint is written before this validation: a run that is killed in it repeats the last steps of the epoch.
        """
        self._epoch_is_over = True
        compat.run_validation(trainer)
        self._epoch_is_over = False

    def _save(self, trainer: pl.Trainer, file: Path, place: Place = "") -> None:
        self._place = place
        for logger in trainer.loggers:
            logger.save()  # rows before a checkpoint are not logged again by a run that resumes from it
        trainer.save_checkpoint(file, weights_only=False)
        self._place = ""
        self._saved = time.monotonic()
        if self._shared is not None:
            self._shared.forget()

    def _requests(self, trainer: pl.Trainer, due: bool = False, *, at_once: bool = False) -> tuple[int, bool]:
        """Return the signal that asks to stop, or 0, and whether a checkpoint is due; the same in every process."""
        own = (self.signals.received, due or time.monotonic() - self._saved > SECONDS_BETWEEN_SAVES)
        if trainer.world_size == 1:
            return own
        if self._shared is None:
            self._shared = Requests(trainer.strategy.root_device)
        return self._shared.exchange(*own, at_once=at_once)


def _validation_follows(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Return whether Lightning validates after this batch, which is not the last one of its epoch."""
    epochs, every = compat.validation_intervals(trainer)
    if every is None or (epochs is not None and (trainer.current_epoch + 1) % epochs):
        return False
    return (compat.batches_started(trainer) if epochs is None else batch_idx + 1) % every == 0
