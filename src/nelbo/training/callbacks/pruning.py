"""A trial of a search that is not worth its time ends early."""

from __future__ import annotations

import os
from typing import Any

import pytorch_lightning as pl

from nelbo.config.checks import STORAGE
from nelbo.errors import NelboError, Pruned
from nelbo.training import compat


class Pruning(pl.Callback):
    """Reports a validation metric to an Optuna trial after each validation, and ends the run when its pruner says so.

    Of several processes the first one reports and decides for all. The environment has the URL of the study's database.

    Args:
        study: its name.
        number: the trial's.
        metric: which `val/` metric.
        pruner: one of `optuna.pruners`.

    Raises:
        NelboError: if the environment has no URL.
    """

    def __init__(self, *, study: str, number: int, metric: str, pruner: Any) -> None:
        self.metric = metric
        if compat.process_rank():
            return
        import optuna  # only a search needs it

        if STORAGE not in os.environ:
            hint = "have the launcher pass the environment on (Slurm: --export=ALL; Ray: where its nodes are started)"
            raise NelboError(f"{STORAGE}: a trial needs this variable, the URL of its study's database; {hint}")
        loaded = optuna.load_study(study_name=study, storage=os.environ[STORAGE], pruner=pruner)
        self.trial = compat.trial_of(loaded, number)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report.

        Raises:
            Pruned: if the trial is given up.
        """
        if self.metric not in trainer.callback_metrics:
            return  # a metric of the test set: nothing to judge it by yet
        value, give_up = float(trainer.callback_metrics[self.metric]), False
        if trainer.is_global_zero:
            self.trial.report(value, step=trainer.current_epoch + 1)
            give_up = self.trial.should_prune()
        if trainer.strategy.broadcast(give_up):
            raise Pruned(f"given up after epoch {trainer.current_epoch + 1}, at {self.metric} {value:.4f}")
