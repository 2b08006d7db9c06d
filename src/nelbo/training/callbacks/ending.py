"""The end of training: when it is reached, why, and the validation of its last state."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from nelbo.training import compat

MAX_EPOCHS, MAX_STEPS, MAX_TIME = "max_epochs", "max_steps", "max_time"
BY_CONFIG = (MAX_EPOCHS, MAX_STEPS, MAX_TIME)
"""Ends that are set in the config: with a larger number the run can be resumed, unlike a run that a callback ended."""


class Ending:
    """Ends training after `max_steps` optimiser steps, or when a callback sets `trainer.should_stop`.

    Lightning's own `max_steps` is not used: with it the last checkpoint would be written before the last validation,
    and an incomplete epoch would be counted as a whole one.

    Args:
        position: completed epochs, and batches of the next one, at the start.
        max_steps: number of optimiser steps; None for no limit.
    """

    def __init__(self, position: tuple[int, int], max_steps: int | None = None) -> None:
        self.max_steps = max_steps
        self.epochs, self.batches = position
        self.was_ended = False
        """Whether a callback had ended training before the checkpoint from which the run resumes was written."""
        self._postponed = False
        self._intervals: tuple[int | None, int | float | None] | None = None

    def begin(self, trainer: pl.Trainer) -> None:
        """Prepare for training, at its start or when it is resumed."""
        if self.batches == trainer.num_training_batches:  # the checkpoint is from the validation at an epoch's end
            self.epochs, self.batches = self.epochs + 1, 0
        if trainer.min_steps is not None and trainer.min_epochs == 1:  # Lightning's default beside min_steps
            compat.set_min_epochs(trainer, 0)

    def count_batch(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Count a batch that was processed, and return whether training ends with it.

        A callback's request to stop waits for the end of the update, because a checkpoint cannot hold the gradients of
        an incomplete one.
        """
        self.epochs, self.batches = trainer.current_epoch, batch_idx + 1
        if trainer.is_last_batch:
            self.epochs, self.batches = self.epochs + 1, 0
        elif (batch_idx + 1) % trainer.accumulate_grad_batches:
            self._postponed |= trainer.should_stop
            trainer.should_stop = False
            return False
        trainer.should_stop |= self._postponed or self._has_all_steps(trainer)
        return self._is_reached(trainer)

    def is_at_checkpoint(self, trainer: pl.Trainer) -> bool:
        """Return whether training ends at the state that was loaded; if so, ask Lightning to stop."""
        trainer.should_stop |= self.was_ended or self._has_all_steps(trainer)
        return self._is_reached(trainer)

    def resume_validation(self, trainer: pl.Trainer) -> None:
        """Ask Lightning to stop after the validation that is repeated, if training ends with it."""
        trainer.should_stop |= self.was_ended or self._has_all_steps(trainer) or _is_out_of_time(trainer)

    def is_at_epoch_end(self, trainer: pl.Trainer) -> bool:
        """Return whether training ends with the epoch that was completed."""
        return self._is_reached(trainer)

    def reason(self, trainer: pl.Trainer) -> str:
        """Return what ended training: max_steps, max_epochs, max_time, or a callback with its name."""
        if self._has_all_steps(trainer):
            return MAX_STEPS
        if self.epochs == trainer.max_epochs:
            return MAX_EPOCHS
        if _is_out_of_time(trainer):
            return MAX_TIME
        callbacks = compat.callbacks_of(trainer)
        for callback in callbacks:
            if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                return f"early stopping ({type(callback).__name__} on {callback.monitor})"
        known = ("nelbo.", "pytorch_lightning.")
        others = [type(callback).__name__ for callback in callbacks if not type(callback).__module__.startswith(known)]
        return f"a callback ({' or '.join(others)})" if others else "a callback"

    def validate_next(self, trainer: pl.Trainer) -> None:
        """Have Lightning validate after this batch, whatever the intervals are."""
        if self._intervals is None:
            self._intervals = compat.validation_intervals(trainer)
        compat.set_validation_intervals(trainer, 1, 1)

    def restore_intervals(self, trainer: pl.Trainer) -> None:
        """Restore the intervals that `validate_next` changed."""
        if self._intervals is not None:
            compat.set_validation_intervals(trainer, *self._intervals)
            self._intervals = None

    def _is_reached(self, trainer: pl.Trainer) -> bool:
        return self.epochs == trainer.max_epochs or (trainer.should_stop and self._may_stop(trainer))

    def _has_all_steps(self, trainer: pl.Trainer) -> bool:
        return self.max_steps is not None and trainer.global_step >= self.max_steps

    def _may_stop(self, trainer: pl.Trainer) -> bool:
        """Return whether Lightning would stop: `min_epochs` and `min_steps` take precedence over a request to stop."""
        return self.epochs >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)


def _is_out_of_time(trainer: pl.Trainer) -> bool:
    """Return whether a timer, of `trainer.max_time` or a callback of the config, has run out."""
    timers = (callback for callback in compat.callbacks_of(trainer) if isinstance(callback, Timer))
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)
