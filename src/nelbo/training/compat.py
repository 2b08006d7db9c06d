"""Private and undocumented interfaces of other packages that `nelbo.training` uses.

Each function or class wraps one interface and names it in its docstring; the rest of `nelbo.training` calls these
wrappers only. `tests/training/test_compat.py` has one test per interface, which names the package, its installed
version and the interface when an upgrade has changed it.
"""

from __future__ import annotations

import csv
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import pytorch_lightning as pl
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import MetricsTextColumn
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric

PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

VALIDATION_START = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
"""The counts of validation batches in a checkpoint of Lightning while the first one is processed."""


def callbacks_of(trainer: pl.Trainer) -> list[pl.Callback]:
    """Return a Trainer's callbacks in the order in which it calls them.

    Wraps pytorch-lightning's `Trainer.callbacks`, which is set by a connector and not declared.
    """
    return trainer.callbacks  # type: ignore[attr-defined,no-any-return]


def data_module_of(trainer: pl.Trainer) -> pl.LightningDataModule | None:
    """Return the data module that a Trainer was given.

    Wraps pytorch-lightning's `Trainer.datamodule`, which is set by a connector and not declared.
    """
    return trainer.datamodule  # type: ignore[attr-defined,no-any-return]


def log_interval(trainer: pl.Trainer) -> int:
    """Return after how many optimiser steps a Trainer logs.

    Wraps pytorch-lightning's `Trainer.log_every_n_steps`, which is set by a connector and not declared.
    """
    return trainer.log_every_n_steps  # type: ignore[attr-defined,no-any-return]


def set_max_epochs(trainer: pl.Trainer, epochs: int) -> None:
    """Change the number of epochs of a Trainer that exists already.

    Wraps pytorch-lightning's `Trainer.fit_loop.max_epochs`; the public `Trainer.max_epochs` is read-only.
    """
    trainer.fit_loop.max_epochs = epochs


def set_min_epochs(trainer: pl.Trainer, epochs: int) -> None:
    """Change the least number of epochs of a Trainer that exists already.

    Wraps pytorch-lightning's `Trainer.fit_loop.min_epochs`; the public `Trainer.min_epochs` is read-only.
    """
    trainer.fit_loop.min_epochs = epochs


def batches_started(trainer: pl.Trainer) -> int:
    """Return how many training batches were started, over all epochs.

    Wraps pytorch-lightning's `Trainer.fit_loop.total_batch_idx`.
    """
    return trainer.fit_loop.total_batch_idx + 1


def validation_intervals(trainer: pl.Trainer) -> tuple[int | None, int | float | None]:
    """Return after how many epochs, and after how many batches, a Trainer validates.

    Wraps pytorch-lightning's `Trainer.check_val_every_n_epoch` and `Trainer.val_check_batch`.
    """
    return trainer.check_val_every_n_epoch, trainer.val_check_batch


def set_validation_intervals(trainer: pl.Trainer, epochs: int | None, batches: int | float | None) -> None:
    """Change after how many epochs, and after how many batches, a Trainer validates.

    Wraps pytorch-lightning's `Trainer.check_val_every_n_epoch` and `Trainer.val_check_batch`.
    """
    trainer.check_val_every_n_epoch, trainer.val_check_batch = epochs, batches


def run_validation(trainer: pl.Trainer) -> None:
    """Validate now, in the middle of training.

    Wraps pytorch-lightning's `Trainer.fit_loop.epoch_loop.val_loop`, and the setters of `Trainer.validating` and
    `Trainer.training`, as its training loop uses them.
    """
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def scheduler_entries(trainer: pl.Trainer) -> list[LRSchedulerConfig]:
    """Return the entries of the learning-rate schedulers that a Trainer steps; `entry.scheduler` can be replaced.

    Wraps pytorch-lightning's `Trainer.lr_scheduler_configs`.
    """
    return trainer.lr_scheduler_configs


def disable_hook(owner: object, name: str) -> None:
    """Have a Trainer skip a hook of a module or a callback.

    Wraps a rule of pytorch-lightning's `_call_callback_hooks` and `_call_lightning_module_hook`: what is not callable
    is skipped.
    """
    setattr(owner, name, None)


def process_rank() -> int:
    """Return the rank of this process among those that train together, before a Trainer exists.

    Wraps lightning-utilities' `rank_zero_only.rank`, which pytorch-lightning sets when it is imported.
    """
    return rank_zero_only.rank  # type: ignore[attr-defined,no-any-return]


def terminate_children(trainer: pl.Trainer) -> None:
    """Send SIGTERM to the processes that a Trainer has started on this machine, if it starts any.

    Wraps pytorch-lightning's `Strategy.launcher` and `_SubprocessScriptLauncher.kill`.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGTERM)


def accelerator_is_available(name: str) -> bool:
    """Return whether this machine has an accelerator that Lightning knows by this name.

    Wraps the entries of pytorch-lightning's `AcceleratorRegistry`.
    """
    return bool(AcceleratorRegistry[name]["accelerator"].is_available())


def resume_in_validation(checkpoint: dict[str, Any]) -> None:
    """Change a checkpoint written before the first batch of a validation so that the run resumes with the validation.

    Wraps `epoch_loop.val_loop.batch_progress` in pytorch-lightning's checkpoints: a run resumes with a validation only
    if a batch of it was counted.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
    progress["total"], progress["current"] = dict(VALIDATION_START), dict(VALIDATION_START)


def resume_after_validation(checkpoint: dict[str, Any]) -> None:
    """Change a checkpoint written after a validation within an epoch so that the run resumes with the next step.

    Wraps `epoch_loop.batch_progress` in pytorch-lightning's checkpoints: a checkpoint that is written at the end of a
    step does not count that step's batch as completed.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in ("total", "current"):
        progress[counts] = {**progress[counts], "completed": progress[counts]["completed"] - 1}


def clear_scheduler_states(checkpoint: dict[str, Any]) -> None:
    """Remove the states of learning-rate schedulers from a checkpoint.

    Wraps the key `lr_schedulers` in pytorch-lightning's checkpoints.
    """
    checkpoint["lr_schedulers"] = []


def clear_optimizer_states(checkpoint: dict[str, Any]) -> None:
    """Remove what the optimisers of a checkpoint have stored for each parameter; their options stay.

    Wraps the key `optimizer_states` in pytorch-lightning's checkpoints.
    """
    for states in checkpoint["optimizer_states"]:
        states["state"] = {}


class AppendingWriter(ExperimentWriter):
    """Lightning's writer of CSV tables, which appends to an existing table instead of deleting it.

    Overrides pytorch-lightning's `ExperimentWriter._check_log_dir_exists` and sets its `metrics_keys`.
    """

    def _check_log_dir_exists(self) -> None:
        if os.path.isfile(self.metrics_file_path):
            with open(self.metrics_file_path, newline="") as stream:
                self.metrics_keys = next(csv.reader(stream), [])


def appending_writer(logger: CSVLogger) -> AppendingWriter:
    """Return the writer of a CSV logger, which is created at the first call.

    Wraps pytorch-lightning's `CSVLogger._experiment`.
    """
    if not isinstance(logger._experiment, AppendingWriter):
        os.makedirs(logger.root_dir, exist_ok=True)
        logger._experiment = AppendingWriter(log_dir=logger.log_dir)
    return logger._experiment


class MetricsColumn(MetricsTextColumn):
    """Lightning's column of metrics in its rich progress bar, whose text a subclass decides.

    Overrides pytorch-lightning's `MetricsTextColumn._generate_metrics_texts`.
    """

    def texts(self, metrics: Mapping[Any, Any]) -> Iterator[str]:
        """Yield one text per metric."""
        raise NotImplementedError

    def _generate_metrics_texts(self) -> Generator[str, None, None]:
        yield from self.texts(self._metrics)


class RichBar(RichProgressBar):
    """Lightning's rich progress bar, whose description of an epoch and column of metrics a subclass decides.

    Overrides pytorch-lightning's `RichProgressBar._get_train_description`; wraps `_console` and `_metric_component`.
    """

    @property
    def width(self) -> int:
        """Columns of the terminal that the bar is drawn in."""
        assert self._console is not None
        return self._console.width

    def set_metrics_column(self, column: MetricsColumn) -> None:
        """Replace the column of metrics; to be called while the columns are configured."""
        self._metric_component = column

    def describe_epoch(self, epoch: int) -> str:
        """Return the text before the bar of an epoch, which counts from 0."""
        raise NotImplementedError

    def _get_train_description(self, current_epoch: int) -> str:
        return self.describe_epoch(current_epoch)


def is_tensorboard_thread(thread: threading.Thread | None) -> bool:
    """Return whether a thread is the one in which TensorBoard writes its files.

    Wraps the module of tensorboard's `_AsyncWriterThread`.
    """
    return type(thread).__module__.startswith("tensorboard.")


def plateau_state(scheduler: ReduceLROnPlateau) -> dict[str, Any]:
    """Return the state of a ReduceLROnPlateau, in plain values.

    Wraps the attributes of torch's `ReduceLROnPlateau`; its `state_dict` holds its options too.
    """
    return {name: getattr(scheduler, name) for name in PLATEAU_STATE}


def set_plateau_state(scheduler: ReduceLROnPlateau, state: Mapping[str, Any]) -> None:
    """Give a ReduceLROnPlateau the state that `plateau_state` returned; its learning rates stay."""
    for name in PLATEAU_STATE:
        setattr(scheduler, name, state[name])


def mark_updated(metric: Metric) -> None:
    """Have a metric compute from a restored state without a warning that it was never updated.

    Wraps torchmetrics' `Metric._update_count`.
    """
    metric._update_count = 1


def trial_of(study: Any, number: int) -> Any:
    """Return the running trial of an optuna.Study by its number.

    Wraps optuna's `FrozenTrial._trial_id`.
    """
    import optuna  # only a search needs it

    return optuna.trial.Trial(study, study.trials[number]._trial_id)
