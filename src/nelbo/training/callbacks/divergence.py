"""The end of a diverged run: its message, and its crash bundle."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl

from nelbo.errors import Diverged, first_line
from nelbo.training.callbacks.crash import FOLDER, Failure, has_positions, write_bundle
from nelbo.training.callbacks.late import Step

HINT = "lower optimizer.lr, or clip with trainer.gradient_clip_val=1"


def stop(
    folder: Path,
    config: Mapping[str, Any],
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    step: Step,
    batch: int,
    failed: Failure,
) -> NoReturn:
    """Write the bundle of a bad step, and stop the run.

    Args:
        folder: the run's directory.
        config: the config of the run.
        trainer: the Trainer of the run.
        pl_module: the module, with the values before the step.
        step: the step.
        batch: the number of its batch that failed, from 0 in the epoch.
        failed: the values of that batch.

    Raises:
        Diverged: always.
    """
    what = f"{failed}; {HINT}; {_leave_bundle(folder, config, trainer, pl_module, step, batch, failed)}"
    where = f"epoch {trainer.current_epoch + 1}, batch {batch + 1}"
    if (total := step.last - step.start.batch + 1) > 1:
        where += f", {batch - step.start.batch + 1} of {total} in this step"
    raise Diverged(f"training diverged at step {step.number} ({where}): {what}")


def _leave_bundle(
    folder: Path,
    config: Mapping[str, Any],
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    step: Step,
    batch: int,
    failed: Failure,
) -> str:
    """Write the bundle, and return a hint on how to replay it."""
    # Gradients are averaged over processes in the last batch of a step, so earlier ones fail in their own process.
    if trainer.world_size > 1 and not _is_cause(trainer, failed, batch < step.last):
        return f"the cause is in another process: see {os.path.relpath(folder / FOLDER)}"
    if not has_positions(trainer):
        return "there is nothing to replay, because the batches are those of data.module"
    try:
        file = write_bundle(folder, trainer, pl_module, step.number, step.start, batch, failed, config)
    except (OSError, RuntimeError) as error:  # torch wraps the errors of its stream
        return f"there is nothing to replay, because the bundle cannot be written: {first_line(error)}"
    return f"replay: {shlex.join(['python', 'scripts/replay.py', f'bundle={os.path.relpath(file)}'])}"


def _is_cause(trainer: pl.Trainer, failed: Failure, earlier: bool) -> bool:
    """Return whether the failure has its cause in this process, or in no process alone.

    Reconstruction and KL depend on this process's images only; a loss may depend on those of all processes.

    Args:
        trainer: the Trainer, which communicates with the other processes.
        failed: the values of the step.
        earlier: whether the failed batch is not the last one of its step.
    """
    for own in (earlier or failed.is_of_own_terms, failed.is_of_loss):
        if trainer.strategy.reduce_boolean_decision(own, all=False):
            return own
    return True
