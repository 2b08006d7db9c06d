"""The Trainer of a run."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from nelbo.build import build
from nelbo.errors import NelboError, first_line
from nelbo.training.checkpoint_io import AtomicCheckpointIO
from nelbo.training.hooks import leave_out_idle_hooks


def make_trainer(
    plain: Mapping[str, Any],
    folder: Path,
    module: pl.LightningModule,
    watchers: list[pl.Callback],
    allowed: Sequence[str],
    *,
    validated: bool,
) -> pl.Trainer:
    """The Trainer of the config with its logger and callbacks, for `module`.

    Args:
        plain: the config.
        folder: the run's directory.
        module: what it will train.
        watchers: callbacks that every run has; called after those of the config.
        allowed: what the config may build.
        validated: whether there is a validation set.

    Raises:
        NelboError: if Lightning refuses it, for want of a GPU for instance.
    """
    quiet_lightning()
    quiet_tensorboard()
    make_logger = build(plain["logger"], "logger", allowed)
    callbacks = [callback for callback in build(plain["callbacks"], "callbacks", allowed).values() if callback]
    # How long it trains is known only when the trainer is there, and `Ending` counts the steps.
    options: dict[str, Any] = {"max_epochs": 1, "max_steps": -1}
    if not validated:
        options["limit_val_batches"] = 0
    try:
        trainer: pl.Trainer = build(plain["trainer"], "trainer", allowed)(
            logger=make_logger(save_dir=folder) if make_logger else False,
            callbacks=callbacks + watchers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            **options,
        )
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    leave_out_idle_hooks(module, trainer.callbacks)  # type: ignore[attr-defined] # set by Lightning's connector
    return trainer


def checkpoint_bytes(module: nn.Module) -> int:
    """About what a checkpoint will take: the weights, and two moments of each."""
    return 3 * sum(parameter.numel() * parameter.element_size() for parameter in module.parameters()) + (1 << 16)


def quiet_lightning() -> None:
    """Leave out what Lightning says that is no news here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Batches are slices of memory: workers would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # TrainingScalars writes the first step too, so that no run is without scalars.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Between Lightning and torch; nothing of ours.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def quiet_tensorboard() -> None:
    """Its writer's thread hands an error on to whoever writes next, which stops the run: it is told there."""
    others = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            others(failed)

    threading.excepthook = tell
