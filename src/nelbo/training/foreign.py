"""Callbacks that are Lightning's or a user's own: checked before training, and named where they fail in it."""

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

OURS, LIGHTNINGS = "nelbo.", "pytorch_lightning."


def check_callbacks(callbacks: Mapping[str, pl.Callback], metrics: Sequence[str]) -> None:
    """Refuse a second progress bar, and monitors of metrics that there are not.

    Args:
        callbacks: those of the config, by name.
        metrics: what validation logs; empty if there is none.

    Raises:
        ConfigError: for the first one.
    """
    bars = [name for name, callback in callbacks.items() if isinstance(callback, pl.callbacks.ProgressBar)]
    if len(bars) > 1:
        hint = f"there is a progress bar already, and one is all there can be; callbacks.{bars[0]}=null leaves it out"
        raise ConfigError(f"callbacks.{bars[1]}._target_", type(callbacks[bars[1]]).__name__, hint, located=True)
    kinds = [type(callback).__module__ for callback in callbacks.values()]
    if not all(kind.startswith((OURS, LIGHTNINGS)) for kind in kinds):
        return  # a callback of the user's own may log whatever another one monitors
    for name, callback in callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not getattr(callback, "strict", True):
            continue
        known = [*metrics, *(("epoch", "step") if isinstance(callback, Checkpoint) else ())]
        rates = any(isinstance(other, LearningRateMonitor) for other in callbacks.values())
        if monitor not in known and not (rates and monitor.startswith("lr-")):
            choices = f"choose from {', '.join(metrics)}" if metrics else "without validation images there is none"
            raise ConfigError(f"callbacks.{name}.monitor", monitor, f"there is no such metric; {choices}", located=True)


def go_on_accumulating(trainer: pl.Trainer) -> None:
    """In the middle of an epoch nobody says that it begins, which is when batches to a step are counted anew."""
    for callback in compat.callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)


@contextlib.contextmanager
def named_errors(specs: Mapping[str, Any]) -> Iterator[None]:
    """What one of Lightning's callbacks refuses in training becomes one line that names it.

    An error in the code of a user's own callback is left as it is.

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
        callback, raised_in = _where(error)
        lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        theirs = callback is not None and type(callback).__module__.startswith(LIGHTNINGS)
        derived = callback is not None and raised_in.startswith(f"{LIGHTNINGS}callbacks.")
        if lost or not (theirs or derived):
            raise
        kind = type(callback).__name__
        keys = [key for key, spec in specs.items() if spec and str(spec["_target_"]).endswith(f".{kind}")]
        name = " or ".join(f"callbacks.{key}" for key in keys) or "a callback"
        raise NelboError(f"{name} ({kind}): {' '.join(str(error).split()) or type(error).__name__}") from error


def _where(error: BaseException) -> tuple[pl.Callback | None, str]:
    """The innermost callback that an error came through, and the module that raised it."""
    callback, module, traceback = None, "", error.__traceback__
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        module = str(frame.f_globals.get("__name__", ""))
        owner = frame.f_locals.get("self")
        callback = owner if isinstance(owner, pl.Callback) else callback
    return callback, module
