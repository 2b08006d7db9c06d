"""The callback that ends an unpromising trial of a search early."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl

from nelbo.config.checks import STORAGE
from nelbo.errors import NelboError, Pruned
from nelbo.training import compat


class Pruning(pl.Callback):
    """Reports a metric to an Optuna trial after each validation, and ends the run if the pruner decides so.

    If several processes train together, the first one reports and decides for all. The URL of the study's database is
    read from an environment variable (`STORAGE`).

    Args:
        study: name of the study.
        number: number of the trial.
        metric: name of the `val/` metric.
        pruner: one of `optuna.pruners`.

    Raises:
        NelboError: if the environment variable is not set.
    """

    def __init__(self, *, study: str, number: int, metric: str, pruner: Any) -> None:
        self.metric = metric
        if compat.process_rank():
            return
        import optuna  # only a search needs it

        if STORAGE not in os.environ:
            hint = "have the launcher pass the environment on (Slurm: --export=ALL; Ray: set it when starting nodes)"
            raise NelboError(f"{STORAGE}: this environment variable must be the URL of the study's database; {hint}")
        loaded = optuna.load_study(study_name=study, storage=os.environ[STORAGE], pruner=pruner)
        self.trial = compat.trial_of(loaded, number)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric.

        Raises:
            Pruned: if the pruner ends the trial.
        """
        if self.metric not in trainer.callback_metrics:
            return  # a metric of the test set, which is not known during training
        value, pruned = float(trainer.callback_metrics[self.metric]), False
        if trainer.is_global_zero:
            self.trial.report(value, step=trainer.current_epoch + 1)
            pruned = self.trial.should_prune()
        if trainer.strategy.broadcast(pruned):
            raise Pruned(f"pruned after epoch {trainer.current_epoch + 1}, at {self.metric} {value:.4f}")
