"""Where training ends, and why: the last state is validated there like any other."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from nelbo.training import compat

MAX_EPOCHS, MAX_STEPS, MAX_TIME = "max_epochs", "max_steps", "max_time"
BY_CONFIG = (MAX_EPOCHS, MAX_STEPS, MAX_TIME)
"""Ends that the config sets: with a larger number the run goes on. What a callback ended stays ended."""


class Ending:
    """Ends training after `max_steps` optimiser steps, or where a callback sets `trainer.should_stop`.

    Lightning is given no `max_steps`: it would leave a checkpoint of that step before its validation, and count the
    part of an epoch as a whole one.

    Args:
        position: epochs that are over, and batches of the next one.
        max_steps: None for no limit.
    """

    def __init__(self, position: tuple[int, int], max_steps: int | None = None) -> None:
        self.max_steps = max_steps
        self.epochs, self.batches = position
        self.was_ended = False
        """Whether a callback had ended training when the checkpoint was written from which the run goes on."""
        self._postponed = False
        self._intervals: tuple[int | None, int | float | None] | None = None

    def begin(self, trainer: pl.Trainer) -> None:
        """Training starts, or goes on."""
        if self.batches == trainer.num_training_batches:  # the checkpoint stands in the validation of an epoch's end
            self.epochs, self.batches = self.epochs + 1, 0
        if trainer.min_steps is not None and trainer.min_epochs == 1:  # Lightning's own, beside min_steps
            compat.set_min_epochs(trainer, 0)

    def note(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Count a batch that is over.

        Returns:
            Whether training ends with it. A callback's wish waits for the end of the update: gradients that are
            summed over several batches are not saved.
        """
        self.epochs, self.batches = trainer.current_epoch, batch_idx + 1
        if trainer.is_last_batch:
            self.epochs, self.batches = self.epochs + 1, 0
        elif (batch_idx + 1) % trainer.accumulate_grad_batches:
            self._postponed |= trainer.should_stop
            trainer.should_stop = False
            return False
        trainer.should_stop |= self._postponed or self._has_made_all_steps(trainer)
        return self._is_here(trainer)

    def is_at_checkpoint(self, trainer: pl.Trainer) -> bool:
        """Whether training ends at the state that was loaded; if so, Lightning is told to stop."""
        trainer.should_stop |= self.was_ended or self._has_made_all_steps(trainer)
        return self._is_here(trainer)

    def resume_validation(self, trainer: pl.Trainer) -> None:
        """The validation in which the checkpoint stands begins again: tell Lightning whether training ends with it."""
        trainer.should_stop |= self.was_ended or self._has_made_all_steps(trainer) or _is_out_of_time(trainer)

    def is_at_epoch_end(self, trainer: pl.Trainer) -> bool:
        """Whether training ends with the epoch that is over."""
        return self._is_here(trainer)

    def reason(self, trainer: pl.Trainer) -> str:
        """What ended training: max_steps, max_epochs, max_time, or a callback by its name."""
        if self._has_made_all_steps(trainer):
            return MAX_STEPS
        if self.epochs == trainer.max_epochs:
            return MAX_EPOCHS
        if _is_out_of_time(trainer):
            return MAX_TIME
        callbacks = compat.callbacks_of(trainer)
        for callback in callbacks:
            if isinstance(callback, EarlyStopping) and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                return f"early stopping ({type(callback).__name__} on {callback.monitor})"
        ours = ("nelbo.", "pytorch_lightning.")
        others = [type(callback).__name__ for callback in callbacks if not type(callback).__module__.startswith(ours)]
        return f"a callback ({' or '.join(others)})" if others else "a callback"

    def validate_next(self, trainer: pl.Trainer) -> None:
        """Let Lightning validate after this batch, whatever the intervals say."""
        if self._intervals is None:
            self._intervals = compat.validation_intervals(trainer)
        compat.set_validation_intervals(trainer, 1, 1)

    def put_intervals_back(self, trainer: pl.Trainer) -> None:
        """After that validation."""
        if self._intervals is not None:
            compat.set_validation_intervals(trainer, *self._intervals)
            self._intervals = None

    def _is_here(self, trainer: pl.Trainer) -> bool:
        return self.epochs == trainer.max_epochs or (trainer.should_stop and self._may_stop(trainer))

    def _has_made_all_steps(self, trainer: pl.Trainer) -> bool:
        return self.max_steps is not None and trainer.global_step >= self.max_steps

    def _may_stop(self, trainer: pl.Trainer) -> bool:
        """As Lightning asks it: `min_epochs` and `min_steps` come before whatever asks to stop."""
        return self.epochs >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)


def _is_out_of_time(trainer: pl.Trainer) -> bool:
    """Whether a timer, that of `trainer.max_time` or a callback of the config, has run out."""
    timers = (callback for callback in compat.callbacks_of(trainer) if isinstance(callback, Timer))
    return any((left := timer.time_remaining()) is not None and left <= 0 for timer in timers)
