"""A trial of a search that is not worth its time ends early."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from nelbo.errors import Pruned


class Pruning(pl.Callback):
    """Reports a validation metric to an Optuna trial after each validation, and ends the run when its pruner says so.

    Args:
        storage: the URL of the study's database.
        study: its name.
        number: the trial's.
        metric: which `val/` metric.
        pruner: one of `optuna.pruners`.
    """

    def __init__(self, *, storage: str, study: str, number: int, metric: str, pruner: Any) -> None:
        import optuna  # only a search needs it

        self.metric = metric
        loaded = optuna.load_study(study_name=study, storage=storage, pruner=pruner)
        self.trial = optuna.trial.Trial(loaded, loaded.trials[number]._trial_id)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report.

        Raises:
            Pruned: if the trial is given up.
        """
        if self.metric not in trainer.callback_metrics:
            return  # a metric of the test set: nothing to judge it by yet
        value = float(trainer.callback_metrics[self.metric])
        self.trial.report(value, step=trainer.current_epoch + 1)
        if self.trial.should_prune():
            raise Pruned(f"given up after epoch {trainer.current_epoch + 1}, at {self.metric} {value:.4f}")
