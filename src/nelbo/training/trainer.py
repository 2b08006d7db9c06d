"""Construction of the Trainer of a run, with its loggers and callbacks."""

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

from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.config.build import build
from nelbo.config.trainer_checks import named_loggers
from nelbo.errors import ConfigError, NelboError, first_line
from nelbo.training import compat
from nelbo.training.callbacks.checkpoints import MONITOR
from nelbo.training.devices import SLOW_BFLOAT16, chosen_precision, has_bfloat16
from nelbo.training.foreign import check_callbacks
from nelbo.training.module import VAEModule

log = logging.getLogger(__name__)

OWN_LOGGERS = {"pytorch_lightning.loggers.TensorBoardLogger": "nelbo.training.loggers.TensorBoardLogger"}
"""Classes of nelbo by the class of Lightning that configs name in their place."""


def make_trainer(
    plain: Mapping[str, Any],
    folder: Path,
    module: VAEModule,
    watchers: list[pl.Callback],
    allowed: Sequence[str],
    *,
    validated: bool,
) -> pl.Trainer:
    """Return the Trainer of a config, with its loggers and callbacks.

    Args:
        plain: the config.
        folder: the run's directory.
        module: the module to train.
        watchers: callbacks that every run has; called after those of the config.
        allowed: prefixes of what the config may build.
        validated: whether there is a validation set.

    Raises:
        NelboError: if Lightning rejects the options, for example because there is no GPU.
    """
    quiet_lightning()
    quiet_tensorboard()
    loggers = make_loggers(plain["logger"], folder, allowed)
    named = {name: callback for name, callback in build(plain["callbacks"], "callbacks", allowed).items() if callback}
    check_callbacks(named, [MONITOR, *module.metric_names("val")] if validated else [])
    callbacks = list(named.values())
    # Placeholders: the length depends on the Trainer's processes (`set_length`), and `Ending` counts the steps.
    options: dict[str, Any] = {"max_epochs": 1, "max_steps": -1, "precision": chosen_precision(plain["trainer"])}
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
    refuse_unstarted_nodes(trainer)
    if trainer.precision == "bf16-mixed" and trainer.strategy.root_device.type == "cpu" and has_bfloat16() is False:
        log.warning(SLOW_BFLOAT16)
    if plain["trainer"].get("precision") == "auto":
        log.info("trainer.precision=auto: %s", trainer.precision)
    return trainer


def refuse_unstarted_nodes(trainer: pl.Trainer) -> None:
    """Refuse several nodes if neither a cluster nor the user starts processes on them: the first would wait forever.

    Raises:
        ConfigError: naming the ways to start them.
    """
    without_cluster = isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.num_nodes > 1 and without_cluster and "MASTER_ADDR" not in os.environ:
        hint = (
            "processes on other nodes are not started automatically; use hydra/launcher=submitit_slurm, srun or "
            "torchrun, or start each yourself with MASTER_ADDR, MASTER_PORT and NODE_RANK set"
        )
        raise ConfigError("trainer.num_nodes", trainer.num_nodes, hint)


def make_loggers(spec: Mapping[str, Any], folder: Path, allowed: Sequence[str]) -> list[Logger]:
    """Return the loggers of a config, which write into subdirectories of `folder`."""
    chosen = {name: with_own_class(one) for name, one in named_loggers(spec).items() if one is not None}
    factories = [build(one, f"logger.{name}" if name else "logger", allowed) for name, one in chosen.items()]
    return [factory(save_dir=folder) for factory in factories]


def with_own_class(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a logger with nelbo's class in place of the class of Lightning that it is derived from."""
    return {**spec, "_target_": OWN_LOGGERS.get(spec["_target_"], spec["_target_"])}


def checkpoint_bytes(module: VAEModule) -> int:
    """Return the approximate size of a checkpoint in bytes: weights, their average, two moments of the optimiser."""
    copies = 3 if module.averaging is None else 4
    return copies * sum(parameter.numel() * parameter.element_size() for parameter in module.parameters()) + (1 << 16)


def quiet_lightning() -> None:
    """Hide Lightning's routine log lines and warnings, except those of profilers and callbacks."""
    lightning = logging.getLogger("pytorch_lightning")
    lightning.setLevel(logging.WARNING)
    if logging.getLogger().hasHandlers():  # as Lightning does if they exist when it is imported
        lightning.handlers.clear()
        lightning.propagate = True
    for part in ("profilers", "callbacks"):
        logging.getLogger(f"pytorch_lightning.{part}").setLevel(logging.INFO)
    # Batches are slices of arrays in memory, so workers would only add copies.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # TrainingScalars always logs the first step, so every run has scalars.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # The average of the weights is updated once an optimiser step, as it should be, and not once a batch.
    warnings.filterwarnings("ignore", message=".*the hooks will not be called on every batch.*")
    # A deprecation in torch that Lightning's code, and none of nelbo's, causes.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def quiet_tensorboard() -> None:
    """Hide the traceback of an error in TensorBoard's writer thread.

    TensorBoard raises the error again in the thread that writes next, which ends the run with a message.
    """
    previous = threading.excepthook

    def report(failed: threading.ExceptHookArgs) -> None:
        if not compat.is_tensorboard_thread(failed.thread):
            previous(failed)

    threading.excepthook = report
