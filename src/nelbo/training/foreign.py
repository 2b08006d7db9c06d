"""Lightning's and users' own callbacks: checks before training, and errors during training that name the callback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Checkpoint, GradientAccumulationScheduler, LearningRateMonitor

from nelbo.config.build import REFUSALS
from nelbo.errors import ConfigError, NelboError
from nelbo.training import compat

NELBO, LIGHTNING = "nelbo.", "pytorch_lightning."
"""Prefixes of the modules of this package's and of Lightning's callbacks."""


def check_callbacks(callbacks: Mapping[str, pl.Callback], metrics: Sequence[str]) -> None:
    """Refuse a second progress bar, and monitors of metrics that are not logged.

    Args:
        callbacks: the callbacks of the config, by name.
        metrics: the metrics that validation logs; empty without validation.

    Raises:
        ConfigError: for the first of them.
    """
    bars = [name for name, callback in callbacks.items() if isinstance(callback, pl.callbacks.ProgressBar)]
    if len(bars) > 1:
        hint = f"a run can have only one progress bar; callbacks.{bars[0]}=null removes the other one"
        raise ConfigError(f"callbacks.{bars[1]}._target_", type(callbacks[bars[1]]).__name__, hint, located=True)
    kinds = [type(callback).__module__ for callback in callbacks.values()]
    if not all(kind.startswith((NELBO, LIGHTNING)) for kind in kinds):
        return  # a user's own callback may log the metric that another callback monitors
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not getattr(callback, "strict", True):
            continue
        known = [*metrics, *(("epoch", "step") if isinstance(callback, Checkpoint) else ())]
        rates = any(isinstance(other, LearningRateMonitor) for other in callbacks.values())
        if monitor not in known and not (rates and monitor.startswith("lr-")):
            hint = f"choose from {', '.join(metrics)}" if metrics else "without validation images none is logged"
            raise ConfigError(f"callbacks.{name}.monitor", monitor, f"is not a logged metric; {hint}", located=True)


def resume_accumulation(trainer: pl.Trainer) -> None:
    """Set the number of batches per step that a GradientAccumulationScheduler has for the current epoch.

    The callback does so when an epoch begins, which does not happen in a run that is resumed within an epoch.
    """
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)


@contextlib.contextmanager
def named_errors(specs: Mapping[str, Any]) -> Iterator[None]:
    """Turn errors of Lightning's callbacks during training into one line that names the callback.

    An error in the code of a user's own callback is not changed.

    Args:
        specs: the callbacks of the config, in plain containers.

    Raises:
        NelboError: in place of the error.
    """
    try:
        yield
    except NelboError:
        raise
    except (MisconfigurationException, LookupError, *REFUSALS) as error:
        callback, raised_in = _origin(error)
        connection_lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        is_lightnings = callback is not None and type(callback).__module__.startswith(LIGHTNING)
        is_derived = callback is not None and raised_in.startswith(f"{LIGHTNING}callbacks.")
        if connection_lost or not (is_lightnings or is_derived):
            raise
        kind = type(callback).__name__
        keys = [key for key, spec in specs.items() if spec and str(spec["_target_"]).endswith(f".{kind}")]
        name = " or ".join(f"callbacks.{key}" for key in keys) or "a callback"
        raise NelboError(f"{name} ({kind}): {' '.join(str(error).split()) or type(error).__name__}") from error


def _origin(error: BaseException) -> tuple[pl.Callback | None, str]:
    """Return the innermost callback in an error's traceback, and the name of the module that raised it."""
    callback, module, traceback = None, "", error.__traceback__
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        module = str(frame.f_globals.get("__name__", ""))
        owner = frame.f_locals.get("self")
        callback = owner if isinstance(owner, pl.Callback) else callback
    return callback, module
