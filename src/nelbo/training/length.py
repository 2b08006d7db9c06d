"""The length of training in epochs and optimiser steps, from the config, the data and the number of processes."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from nelbo.data.run_data import RunData
from nelbo.errors import ConfigError
from nelbo.training import compat
from nelbo.training.callbacks import Checkpoints, Pictures
from nelbo.training.module import VAEModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Length:
    """How long a run trains if nothing ends it earlier.

    Args:
        epochs: number of epochs; the last one may be cut short by `max_steps`.
        steps: optimiser steps in all of them.
        max_steps: the step that ends training, if the config has one.
        batches: batches of an epoch in each process.
        by_budget: whether the budget, and neither trainer.max_epochs nor trainer.max_steps, sets the number of epochs.
        raised_from: the budget's epochs, if these would make fewer steps than its `min_steps`; else None.
        min_steps: the least number of steps in the budget.
    """

    epochs: int
    steps: int
    max_steps: int | None
    batches: int
    by_budget: bool = False
    raised_from: int | None = None
    min_steps: int = 0

    @property
    def note(self) -> str:
        """One line that says that the epochs were raised; empty if they were not."""
        if self.raised_from is None:
            return ""
        return (
            f"training for {self.epochs} epochs ({self.steps} steps): with so few images the budget's "
            f"{self.raised_from} epochs make fewer steps than budget.min_steps={self.min_steps}; trainer.max_epochs=N "
            "trains for N epochs"
        )


def training_length(plain: Mapping[str, Any], data: RunData, trainer: pl.Trainer) -> Length:
    """Return how long a run trains.

    `trainer.max_epochs` is taken as given. If it is null, `trainer.max_steps` alone decides, if that is given;
    otherwise `budget.epochs`, or as many epochs as `budget.min_steps` steps need, if those are more. The budget's
    epochs are not raised when training uses only a share of the images (`trainer.limit_train_batches`,
    `trainer.overfit_batches`), as quick experiments do.

    Args:
        plain: the config.
        data: the data, after its `setup`.
        trainer: the Trainer, for the number of processes and of batches per update.

    Raises:
        ConfigError: if a validation would never be reached or would fall between the batches of one update, or if
            `min_epochs` or `min_steps` lie beyond the end.
    """
    options, budget = plain["trainer"], plain.get("budget") or {}
    limit, max_epochs = options.get("overfit_batches") or options["limit_train_batches"], options["max_epochs"]
    batches = data.num_batches(trainer.world_size)
    is_share = isinstance(limit, float)
    whole_set = is_share and limit == 1
    if not whole_set:  # counted as Lightning does
        batches = max(1, int(batches * limit)) if is_share else min(batches, limit)
    factors = accumulation(trainer)
    refuse_unreachable_validation(options, batches)
    refuse_validation_within_update(options, batches, factors)
    max_steps = None if options.get("max_steps") in (None, -1) else int(options["max_steps"])
    raised_from, min_steps = None, int(budget.get("min_steps") or 0)
    by_budget = max_epochs is None and max_steps is None
    if by_budget:
        epochs = int(budget["epochs"])
        if whole_set and (needed := epochs_of(min_steps, batches, factors)) > epochs:
            epochs, raised_from = needed, epochs
    elif max_steps is None:
        epochs = int(max_epochs)
    else:
        epochs = epochs_of(max_steps, batches, factors)
        epochs = epochs if max_epochs in (None, -1) else min(epochs, max_epochs)
    steps = steps_of(epochs, batches, factors)
    whole = epochs
    if max_steps is not None and max_steps < steps:
        steps, whole = max_steps, epochs - 1
    end = f"trainer.max_epochs={epochs}" if max_epochs is not None else f"budget.epochs={epochs}"
    if steps == max_steps or raised_from is not None:
        end = f"budget.min_steps={min_steps}" if max_steps is None else f"trainer.max_steps={max_steps}"
    refuse_minimum_beyond_end(options, steps, whole, end)
    return Length(epochs, steps, max_steps, batches, by_budget, raised_from, min_steps)


def refuse_minimum_beyond_end(options: Mapping[str, Any], steps: int, epochs: int, end: str) -> None:
    """Refuse a least number of epochs or steps that training does not reach.

    Args:
        options: options of the Trainer.
        steps: the step at which training ends.
        epochs: epochs completed by then.
        end: the option that ends training, with its value.

    Raises:
        ConfigError: if `trainer.min_epochs` or `trainer.min_steps` is larger.
    """
    for key, most in (("min_epochs", epochs), ("min_steps", steps)):
        least = options.get(key)
        if least is not None and least > most:
            hint = f"training ends after {steps} steps, {epochs} whole epochs, by {end}"
            raise ConfigError(f"trainer.{key}", least, hint)


def set_length(length: Length, trainer: pl.Trainer, module: VAEModule, checkpoints: Checkpoints) -> None:
    """Apply a length to a Trainer and its callbacks; if epochs were raised, the number of pictures stays the same."""
    compat.set_max_epochs(trainer, length.epochs)
    checkpoints.ending.max_steps, module.total_steps = length.max_steps, length.steps
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, Pictures) and length.raised_from:
            callback.every_n_epochs *= round(length.epochs / length.raised_from)
    if length.note:
        log.info(length.note)


def accumulation(trainer: pl.Trainer) -> dict[int, int]:
    """Return the number of batches per optimiser step, keyed by the epoch from which it applies."""
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            return dict(sorted(callback.scheduling.items()))
    return {0: trainer.accumulate_grad_batches}


def steps_of(epochs: int, batches: int, factors: Mapping[int, int]) -> int:
    """Return the number of optimiser steps in a number of epochs; the last batch of an epoch always ends an update.

    Args:
        epochs: number of epochs.
        batches: batches per epoch.
        factors: what `accumulation` returns.

    Example:
        >>> steps_of(3, batches=6, factors={0: 1, 2: 4})
        14
    """
    starts, ends = list(factors), [*list(factors)[1:], math.inf]
    spans = zip(starts, ends, factors.values(), strict=True)
    return sum(max(0, int(min(end, epochs)) - start) * math.ceil(batches / factor) for start, end, factor in spans)


def epochs_of(steps: int, batches: int, factors: Mapping[int, int]) -> int:
    """Return the number of epochs that a number of optimiser steps needs; the last epoch may be incomplete.

    Args:
        steps: number of optimiser steps.
        batches: batches per epoch.
        factors: what `accumulation` returns.

    Example:
        >>> epochs_of(13, batches=6, factors={0: 1, 2: 4})
        3
    """
    done, ends = 0, [*list(factors)[1:], math.inf]
    for start, end, factor in zip(factors, ends, factors.values(), strict=True):
        each = math.ceil(batches / factor)
        needed = math.ceil((steps - done) / each)
        if start + needed <= end:
            return start + needed
        done += int(end - start) * each
    raise AssertionError("the last span has no end")


def refuse_unreachable_validation(options: Mapping[str, Any], batches: int) -> None:
    """Refuse an interval between validations that is longer than an epoch, if batches are counted within an epoch.

    Raises:
        ConfigError: naming `trainer.val_check_interval`.
    """
    interval = options.get("val_check_interval")
    counts_epochs = options["check_val_every_n_epoch"] is not None
    if counts_epochs and isinstance(interval, int) and interval > batches:
        hint = f"an epoch has {batches} batches; trainer.check_val_every_n_epoch=null counts them across epochs"
        raise ConfigError("trainer.val_check_interval", interval, hint)


def refuse_validation_within_update(options: Mapping[str, Any], batches: int, factors: Mapping[int, int]) -> None:
    """Refuse validations between the batches of one update.

    A checkpoint is written at a validation, and it cannot hold gradients of an incomplete update.

    Raises:
        ConfigError: naming `trainer.val_check_interval`.
    """
    interval = options.get("val_check_interval")
    if interval is None or max(factors.values()) == 1:
        return
    every = interval if isinstance(interval, int) else max(1, int(batches * interval))
    across = options["check_val_every_n_epoch"] is None
    for factor in factors.values():
        if (every < batches and every % factor) or (across and (batches % factor or every % factor)):
            hint = f"validates after {every} batches, within an update of {factor} batches; use a multiple of {factor}"
            raise ConfigError("trainer.val_check_interval", interval, hint)
