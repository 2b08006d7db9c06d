"""Checks of the keys of `trainer` that determine when training ends and validates, and of those that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nelbo.errors import ConfigError, at_most, boolean, integer, positive_integer

Check = Callable[[str, object], object]

DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")
UNITS = ("days", "hours", "minutes", "seconds")

REFUSED = {
    "logger": "cannot be set here; loggers have a config group: logger=none|tensorboard|csv|wandb|mlflow",
    "callbacks": "cannot be set here; callbacks have a config group: +callbacks.NAME={_target_:...}",
    "plugins": "cannot be set; the run uses a plugin to write its checkpoints",
    "default_root_dir": "cannot be set; a run's directory is hydra.run.dir=...",
    "enable_progress_bar": "cannot be set here; the progress bar is a callback: ~callbacks.progress leaves it out",
    "enable_checkpointing": "cannot be set; a run needs checkpoints, because its results are those of the best one",
    "fast_dev_run": "cannot be used, because it writes no checkpoint to test; debug=fast_dev_run tests a batch too",
    "barebones": "cannot be used, because it writes no checkpoints or metrics; use callbacks=none logger=none",
    "limit_predict_batches": "has no effect; scripts/evaluate.py and scripts/draw.py have limit=...",
    "reload_dataloaders_every_n_epochs": "cannot be set; the images do not change, and each epoch has another order",
    "enable_autolog_hparams": "cannot be set; a run writes its config and TensorBoard's hparams itself",
    "model_registry": "cannot be set; a run's checkpoints stay in its directory",
}
"""Options of Lightning's Trainer that a run cannot use, and why."""


def refuse(hint: str) -> Check:
    """Return a check that refuses every value with this hint."""

    def check(key: str, value: object) -> None:
        raise ConfigError(key, value, hint)

    return check


def max_epochs(key: str, value: object) -> None:
    """Check a number of epochs; -1 means no limit, and null the number of the budget."""
    if value is None or value == -1:
        return
    try:
        positive_integer(key, value)
    except ConfigError as error:
        hint = f"{error.hint}; or null for the budget's, or -1 if trainer.max_steps ends training"
        raise ConfigError(key, error.value, hint) from None


def max_steps(key: str, value: object) -> None:
    """Check a number of optimiser steps; null or -1 means no limit."""
    if value is not None and value != -1:
        positive_integer(key, value)


def max_time(key: str, value: object) -> None:
    """Check a duration in one of Lightning's forms, text or a mapping of units; null means no limit."""
    if value is None:
        return
    if isinstance(value, str) and DURATION.fullmatch(value):
        valid = set(value) != {"0", ":"}
    else:
        numbers = value.values() if isinstance(value, Mapping) and set(value) <= set(UNITS) else [None]
        valid = all(isinstance(number, int | float) and number >= 0 for number in numbers) and any(numbers)
    if not valid:
        hint = "must be 'DD:HH:MM:SS', or a mapping of days, hours, minutes and seconds such as {hours:2,minutes:30}"
        raise ConfigError(key, value, hint)


def positive_integer_or_none(key: str, value: object) -> None:
    """Check a whole number of at least 1, or null."""
    if value is not None:
        positive_integer(key, value)


def deterministic(key: str, value: object) -> None:
    """Check what to do with operations that are not deterministic: true (an error), warn, or false and null (allow)."""
    if value is not None and value != "warn" and not isinstance(value, bool):
        raise ConfigError(key, value, "must be true, false or warn")


CHECKS: dict[str, Check] = {
    "budget.min_steps": lambda key, value: integer(key, value, minimum=0),
    "trainer.max_epochs": max_epochs,
    "trainer.min_epochs": at_most,
    "trainer.max_steps": max_steps,
    "trainer.min_steps": at_most,
    "trainer.max_time": max_time,
    "trainer.check_val_every_n_epoch": positive_integer_or_none,
    "trainer.deterministic": deterministic,
    "trainer.enable_model_summary": boolean,
    **{f"trainer.{name}": refuse(reason) for name, reason in REFUSED.items()},
}
"""Checks of single values by key; a key that the config lacks is not checked."""


def check_together(trainer: Mapping[str, Any], budget: object) -> None:
    """Check that the keys do not contradict each other, and that training ends.

    Raises:
        ConfigError: if they do, or if no key determines when training ends.
    """
    epochs, steps = trainer["max_epochs"], trainer.get("max_steps")
    limited = steps not in (None, -1)
    if epochs == -1 and not limited:
        raise ConfigError("trainer.max_epochs", epochs, "needs trainer.max_steps=... to end training")
    if epochs is None and not limited and not (isinstance(budget, Mapping) and "epochs" in budget):
        raise ConfigError("trainer.max_epochs", None, "needs a budget with budget.epochs")
    minimum = trainer.get("min_steps")
    if limited and minimum is not None and minimum > steps:
        raise ConfigError("trainer.min_steps", minimum, f"is more than trainer.max_steps={steps}")
    minimum = trainer.get("min_epochs")
    if epochs not in (None, -1) and minimum is not None and minimum > epochs:
        raise ConfigError("trainer.min_epochs", minimum, f"is more than trainer.max_epochs={epochs}")
    if trainer["check_val_every_n_epoch"] is None and not isinstance(trainer.get("val_check_interval"), int):
        hint = "validates after a number of batches; set it, as in trainer.val_check_interval=1000"
        raise ConfigError("trainer.check_val_every_n_epoch", None, hint)
