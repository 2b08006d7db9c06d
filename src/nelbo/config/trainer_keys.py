"""Checks of the keys of `trainer` that decide when training ends and validates, and of those that a run cannot use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nelbo.errors import ConfigError, at_most, boolean, integer, positive_integer

Check = Callable[[str, object], object]

DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
UNITS = ("days", "hours", "minutes", "seconds")

REFUSED = {
    "logger": "a run's logger is a group of its own: logger=none|tensorboard|csv",
    "callbacks": "a run's callbacks are a group of their own: +callbacks.NAME={_target_:...}",
    "plugins": "a run's checkpoints are written by a plugin of its own",
    "default_root_dir": "a run's directory is hydra.run.dir=...",
    "enable_progress_bar": "the progress bar is a callback: ~callbacks.progress leaves it out",
    "enable_checkpointing": "a run writes checkpoints, for its results are those of the best",
    "fast_dev_run": "it writes no checkpoint to test: trainer=smoke takes seconds",
    "barebones": "it writes no checkpoints and no metrics: callbacks=none logger=none leaves out what is not needed",
    "limit_predict_batches": "a run predicts nothing: scripts/evaluate.py and scripts/draw.py do, with limit=...",
    "reload_dataloaders_every_n_epochs": "the images do not change, and each epoch has an order of its own",
    "enable_autolog_hparams": "a run writes its config and TensorBoard's hparams itself",
    "model_registry": "a run's checkpoints stay in its directory",
}
"""Options of Lightning's Trainer that have no place in a run, and why."""


def refuse(hint: str) -> Check:
    """A check that no value passes."""

    def check(key: str, value: object) -> None:
        raise ConfigError(key, value, hint)

    return check


def max_epochs(key: str, value: object) -> None:
    """A number of epochs, -1 for no limit, or null for the budget's."""
    if value is None or value == -1:
        return
    try:
        positive_integer(key, value)
    except ConfigError as error:
        hint = f"{error.hint}; or null for the budget's, or -1 where trainer.max_steps ends training"
        raise ConfigError(key, error.value, hint) from None


def max_steps(key: str, value: object) -> None:
    """A number of optimiser steps; null or -1 for no limit."""
    if value is not None and value != -1:
        positive_integer(key, value)


def max_time(key: str, value: object) -> None:
    """A duration as Lightning takes it: text, or a mapping of units; null for no limit."""
    if value is None:
        return
    if isinstance(value, str) and DURATION.fullmatch(value):
        good = set(value) != {"0", ":"}
    else:
        numbers = value.values() if isinstance(value, Mapping) and set(value) <= set(UNITS) else [None]
        good = all(isinstance(number, int | float) and number >= 0 for number in numbers) and any(numbers)
    if not good:
        hint = "must be 'DD:HH:MM:SS' or units such as {hours:2,minutes:30}, of days, hours, minutes and seconds"
        raise ConfigError(key, value, hint)


def whole_number_or_none(key: str, value: object) -> None:
    """Of epochs; null: none."""
    if value is not None:
        positive_integer(key, value)


def deterministic(key: str, value: object) -> None:
    """Whether operations whose last bits vary are refused (true), named (warn) or taken; null: taken."""
    if value is not None and value != "warn" and not isinstance(value, bool):
        raise ConfigError(key, value, "must be true, false or warn")


CHECKS: dict[str, Check] = {
    "budget.min_steps": lambda key, value: integer(key, value, minimum=0),
    "trainer.max_epochs": max_epochs,
    "trainer.min_epochs": at_most,
    "trainer.max_steps": max_steps,
    "trainer.min_steps": at_most,
    "trainer.max_time": max_time,
    "trainer.check_val_every_n_epoch": whole_number_or_none,
    "trainer.deterministic": deterministic,
    "trainer.enable_model_summary": boolean,
    **{f"trainer.{name}": refuse(reason) for name, reason in REFUSED.items()},
}
"""By key, where the config has it."""


def check_together(trainer: Mapping[str, Any], budget: object) -> None:
    """What only several keys show.

    Raises:
        ConfigError: if nothing says when training ends, or the keys contradict each other.
    """
    epochs, steps = trainer["max_epochs"], trainer.get("max_steps")
    limited = steps not in (None, -1)
    if epochs == -1 and not limited:
        raise ConfigError("trainer.max_epochs", epochs, "needs trainer.max_steps=..., which says when training ends")
    if epochs is None and not limited and not (isinstance(budget, Mapping) and "epochs" in budget):
        raise ConfigError("trainer.max_epochs", None, "needs a budget that says how many: budget.epochs")
    least = trainer.get("min_steps")
    if limited and least is not None and least > steps:
        raise ConfigError("trainer.min_steps", least, f"is more than trainer.max_steps={steps}")
    least = trainer.get("min_epochs")
    if epochs not in (None, -1) and least is not None and least > epochs:
        raise ConfigError("trainer.min_epochs", least, f"is more than trainer.max_epochs={epochs}")
    if trainer["check_val_every_n_epoch"] is None and not isinstance(trainer.get("val_check_interval"), int):
        hint = "validates by batches alone: say after how many, trainer.val_check_interval=1000"
        raise ConfigError("trainer.check_val_every_n_epoch", None, hint)
