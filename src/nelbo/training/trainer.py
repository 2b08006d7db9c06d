"""The Trainer of a run."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import Logger
from torch import nn

from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.config.build import build
from nelbo.config.trainer_checks import named_loggers
from nelbo.errors import ConfigError, NelboError, first_line
from nelbo.training import compat
from nelbo.training.callbacks.checkpoints import MONITOR
from nelbo.training.foreign import check_callbacks
from nelbo.training.module import VAEModule


def make_trainer(
    plain: Mapping[str, Any],
    folder: Path,
    module: VAEModule,
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
    loggers = make_loggers(plain["logger"], folder, allowed)
    named = {name: callback for name, callback in build(plain["callbacks"], "callbacks", allowed).items() if callback}
    check_callbacks(named, [MONITOR, *module.metric_names("val")] if validated else [])
    callbacks = list(named.values())
    # How long it trains is known only when the trainer is there, and `Ending` counts the steps.
    options: dict[str, Any] = {"max_epochs": 1, "max_steps": -1}
    if not validated:
        options["limit_val_batches"] = 0
    try:
        trainer: pl.Trainer = build(plain["trainer"], "trainer", allowed)(
            logger=loggers,
            callbacks=callbacks + watchers,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            **options,
        )
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    refuse_nodes_nobody_starts(trainer)
    return trainer


def refuse_nodes_nobody_starts(trainer: pl.Trainer) -> None:
    """Refuse several machines where neither a cluster nor the user says which they are: the first would wait for ever.

    Raises:
        ConfigError: naming what starts them.
    """
    alone = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.num_nodes > 1 and alone and "MASTER_ADDR" not in os.environ:
        hint = (
            "nothing here starts processes on other machines: use hydra/launcher=submitit_slurm, srun or torchrun, or "
            "start each yourself with MASTER_ADDR, MASTER_PORT and NODE_RANK set"
        )
        raise ConfigError("trainer.num_nodes", trainer.num_nodes, hint)


def make_loggers(spec: Mapping[str, Any], folder: Path, allowed: Sequence[str]) -> list[Logger]:
    """The loggers of a config, which write below `folder`."""
    wanted = {name: one for name, one in named_loggers(spec).items() if one is not None}
    made = [build(one, f"logger.{name}" if name else "logger", allowed) for name, one in wanted.items()]
    return [make(save_dir=folder) for make in made]


def checkpoint_bytes(module: nn.Module) -> int:
    """About what a checkpoint will take: the weights, and two moments of each."""
    return 3 * sum(parameter.numel() * parameter.element_size() for parameter in module.parameters()) + (1 << 16)


def quiet_lightning() -> None:
    """Leave out what Lightning says that is no news here; what profilers and callbacks say was asked for."""
    lightning = logging.getLogger("pytorch_lightning")
    lightning.setLevel(logging.WARNING)
    if logging.getLogger().hasHandlers():  # as Lightning does itself, if they are there when it is imported
        lightning.handlers.clear()
        lightning.propagate = True
    for asked in ("profilers", "callbacks"):
        logging.getLogger(f"pytorch_lightning.{asked}").setLevel(logging.INFO)
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
        if not compat.is_tensorboard_thread(failed.thread):
            others(failed)

    threading.excepthook = tell
