"""How long a run trains, in epochs and in optimiser steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from nelbo.data.loader import Batches
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError
from nelbo.training import compat
from nelbo.training.callbacks import Checkpoints, Pictures
from nelbo.training.module import VAEModule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Length:
    """How long a run trains, if nothing ends it earlier.

    Args:
        epochs: of which the last one may be cut short by `max_steps`.
        steps: optimiser steps of all of them.
        max_steps: the step that ends training, where the config has one.
        batches: of an epoch, in each process.
        by_budget: whether the budget says how many epochs, and nothing that was typed.
        raised_from: its epochs, where these make fewer steps than its `min_steps`.
        min_steps: of the budget.
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
        """One line about epochs that were raised; empty if they were not."""
        if self.raised_from is None:
            return ""
        return (
            f"trains for {self.epochs} epochs ({self.steps} steps): on so few images the budget's {self.raised_from} "
            f"make fewer steps than budget.min_steps={self.min_steps}; trainer.max_epochs=N trains for N"
        )


def training_length(plain: Mapping[str, Any], data: ImageData, trainer: pl.Trainer) -> Length:
    """How long a run trains, by its config, its data and the processes that share these.

    `trainer.max_epochs` counts as it is typed. Where it is null, `trainer.max_steps` alone decides, if that is given;
    else `budget.epochs`, or as many epochs as `budget.min_steps` steps need, if those are more. A share of the images
    (`trainer.limit_train_batches`, `trainer.overfit_batches`) is for trying things, and raises nothing.

    Args:
        plain: the config.
        data: set up.
        trainer: which knows how many processes there are, and over how many batches gradients are summed.

    Raises:
        ConfigError: if a validation would never come, or between the batches of one update, or if `min_epochs` or
            `min_steps` goes beyond the end.
    """
    options, budget = plain["trainer"], plain.get("budget") or {}
    limit, typed = options.get("overfit_batches") or options["limit_train_batches"], options["max_epochs"]
    batches = len(Batches(len(data.splits["train"]), data.batch_size, shuffle=False, world_size=trainer.world_size))
    is_share = isinstance(limit, float)
    whole_set = is_share and limit == 1
    if not whole_set:  # as Lightning counts
        batches = max(1, int(batches * limit)) if is_share else min(batches, limit)
    factors = accumulation(trainer)
    refuse_validation_that_never_comes(options, batches)
    refuse_validation_within_an_update(options, batches, factors)
    max_steps = None if options.get("max_steps") in (None, -1) else int(options["max_steps"])
    raised_from, min_steps = None, int(budget.get("min_steps") or 0)
    by_budget = typed is None and max_steps is None
    if by_budget:
        epochs = int(budget["epochs"])
        if whole_set and (enough := epochs_of(min_steps, batches, factors)) > epochs:
            epochs, raised_from = enough, epochs
    elif max_steps is None:
        epochs = int(typed)
    else:
        epochs = epochs_of(max_steps, batches, factors)
        epochs = epochs if typed in (None, -1) else min(epochs, typed)
    steps = steps_of(epochs, batches, factors)
    whole = epochs
    if max_steps is not None and max_steps < steps:
        steps, whole = max_steps, epochs - 1
    end = f"trainer.max_epochs={epochs}" if typed is not None else f"budget.epochs={epochs}"
    if steps == max_steps or raised_from is not None:
        end = f"budget.min_steps={min_steps}" if max_steps is None else f"trainer.max_steps={max_steps}"
    refuse_more_than_there_is(options, steps, whole, end)
    return Length(epochs, steps, max_steps, batches, by_budget, raised_from, min_steps)


def refuse_more_than_there_is(options: Mapping[str, Any], steps: int, epochs: int, end: str) -> None:
    """Refuse a least number of epochs or steps beyond the end.

    Args:
        options: of the trainer.
        steps: after which training ends.
        epochs: that are whole then.
        end: the option that ends it.

    Raises:
        ConfigError: if `trainer.min_epochs` or `trainer.min_steps` asks for more.
    """
    for key, most in (("min_epochs", epochs), ("min_steps", steps)):
        least = options.get(key)
        if least is not None and least > most:
            hint = f"training ends after {steps} steps, {epochs} whole epochs, by {end}"
            raise ConfigError(f"trainer.{key}", least, hint)


def set_length(length: Length, trainer: pl.Trainer, module: VAEModule, checkpoints: Checkpoints) -> None:
    """Let training last so long; the pictures of a budget whose epochs were raised stay as many."""
    compat.set_max_epochs(trainer, length.epochs)
    checkpoints.ending.max_steps, module.total_steps = length.max_steps, length.steps
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, Pictures) and length.raised_from:
            callback.every_n_epochs *= round(length.epochs / length.raised_from)
    if length.note:
        log.info(length.note)


def accumulation(trainer: pl.Trainer) -> dict[int, int]:
    """Over how many batches the gradients of an update are summed, by the epoch from which on that holds."""
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            return dict(sorted(callback.scheduling.items()))
    return {0: trainer.accumulate_grad_batches}


def steps_of(epochs: int, batches: int, factors: Mapping[int, int]) -> int:
    """Optimiser steps of so many epochs; the last batch of an epoch always ends an update."""
    starts, ends = list(factors), [*list(factors)[1:], math.inf]
    spans = zip(starts, ends, factors.values(), strict=True)
    return sum(max(0, int(min(end, epochs)) - start) * math.ceil(batches / factor) for start, end, factor in spans)


def epochs_of(steps: int, batches: int, factors: Mapping[int, int]) -> int:
    """The epochs that so many optimiser steps need, the last one begun or whole."""
    done, ends = 0, [*list(factors)[1:], math.inf]
    for start, end, factor in zip(factors, ends, factors.values(), strict=True):
        each = math.ceil(batches / factor)
        needed = math.ceil((steps - done) / each)
        if start + needed <= end:
            return start + needed
        done += int(end - start) * each
    raise AssertionError("the last span has no end")


def refuse_validation_that_never_comes(options: Mapping[str, Any], batches: int) -> None:
    """A number of batches counts anew in each epoch, unless no epochs are counted."""
    interval = options.get("val_check_interval")
    counts_epochs = options["check_val_every_n_epoch"] is not None
    if counts_epochs and isinstance(interval, int) and interval > batches:
        hint = f"an epoch has {batches} batches: give fewer, or count over epochs: trainer.check_val_every_n_epoch=null"
        raise ConfigError("trainer.val_check_interval", interval, hint)


def refuse_validation_within_an_update(options: Mapping[str, Any], batches: int, factors: Mapping[int, int]) -> None:
    """A checkpoint holds no half-summed gradients, so none could be written at such a validation.

    Raises:
        ConfigError: if `trainer.val_check_interval` asks for one.
    """
    interval = options.get("val_check_interval")
    if interval is None or max(factors.values()) == 1:
        return
    every = interval if isinstance(interval, int) else max(1, int(batches * interval))
    across = options["check_val_every_n_epoch"] is None
    for factor in factors.values():
        if (every < batches and every % factor) or (across and (batches % factor or every % factor)):
            hint = f"validates after {every} batches, within an update: gradients are summed over {factor}"
            raise ConfigError("trainer.val_check_interval", interval, f"{hint}; give a multiple of that")
