"""The one LightningModule: a model, an objective, metrics and an optimiser. No maths in it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torchmetrics import MetricCollection

from nelbo.collectives import Shares
from nelbo.loading import FORMAT, RECORD
from nelbo.metrics import ExampleMean, KLPerUnit, standard_metrics
from nelbo.models import VAE
from nelbo.objectives import Objective
from nelbo.trace import Trace

EVALUATION_SEED = 0
"""Validation and test draw the same noise every time, so that epochs compare fairly."""


class VAEModule(pl.LightningModule):
    """Trains `model` on `objective`.

    Args:
        model: has `trace(x, num_samples)`.
        objective: what is minimised.
        optimizer: called with the parameters.
        scheduler: called with the optimizer and the number of steps; stepped after every batch.
        example: a trace of the model, for the metrics that have a meaning for such traces.
        dequantized_levels: how many levels uniform noise has filled, if the pixels are such.
        record: the model's plain config and what else a checkpoint should carry, in plain containers.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer, int], LRScheduler],
        example: Trace,
        dequantized_levels: int | None,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.objective, self.example = model, objective, example
        self.optimizer, self.scheduler, self.record = optimizer, scheduler, record
        self.terms: dict[str, Tensor | float] = {}
        self.last_trace: Trace | None = None
        self.stage_metrics = nn.ModuleDict(
            {
                f"{stage}_": standard_metrics(example, f"{stage}/", dequantized_levels=dequantized_levels)
                for stage in ("val", "test")
            }
        )
        # What the best checkpoint minimises: the objective with its schedules at their final value.
        self.validation_objective = ExampleMean(lambda trace: objective(trace, math.inf).total.expand(len(trace.x)))
        self.kl_per_unit = KLPerUnit(example) if KLPerUnit.applies(example) else None
        self.unit_kl: Tensor | None = None
        self._isolation = contextlib.ExitStack()

    def on_train_start(self) -> None:
        """The optimiser's options are the config's: a checkpoint brings those that it was written with."""
        optimizer = self.trainer.optimizers[0]
        rates = []
        for group, own in zip(optimizer.param_groups, self.parameter_groups(), strict=True):
            options = {**optimizer.defaults, **{name: value for name, value in own.items() if name != "params"}}
            rate = options.pop("lr")
            scale = rate / group["initial_lr"]  # 1, unless the run was allowed to go on with another rate
            group.update(options)
            group["lr"], group["initial_lr"] = group["lr"] * scale, rate
            rates.append(rate)
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            scheduler.base_lrs = list(rates)
            if isinstance(scheduler, LambdaLR):  # a function of the step: of all epochs, also of those that were added
                for group, rate, share in zip(optimizer.param_groups, rates, scheduler.lr_lambdas, strict=True):
                    group["lr"] = rate * share(scheduler.last_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch; until the batch ends, callbacks may look at its `terms` and `last_trace`."""
        scheduled = self.model.advance(self.global_step)
        self.last_trace = self.model.trace(batch[0], self.objective.num_samples)
        loss = self.objective(self.last_trace, self.global_step)
        self.terms = loss.terms | scheduled
        return by_examples(loss.total, self.last_trace.shares)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Callbacks have looked: free the trace before the next one is made."""
        self.last_trace = None

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        trace = self.model.trace(batch[0], self.objective.num_samples)
        self._metrics("val").update(trace)
        self.validation_objective.update(trace)
        if self.kl_per_unit is not None:
            self.kl_per_unit.update(trace)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        self._metrics("test").update(self.model.trace(batch[0], self.objective.num_samples))

    def on_validation_epoch_start(self) -> None:
        """The noise of evaluation begins."""
        self._begin_evaluation()

    def on_test_epoch_start(self) -> None:
        """The noise of evaluation begins."""
        self._begin_evaluation()

    def on_validation_epoch_end(self) -> None:
        """Log, and give training its random state back."""
        self.log_dict({"val/objective": self.validation_objective.compute()}, sync_dist=True)
        self.validation_objective.reset()
        if self.kl_per_unit is not None:
            self.unit_kl = self.kl_per_unit.values()  # (D,), for callbacks
            self.kl_per_unit.reset()
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log, and give training its random state back."""
        self._end_evaluation("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, over the objective's own parameters too, and its schedule by step."""
        optimizer = self.optimizer(self.parameter_groups())
        scheduler = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The model's parameters and, where it has any, the objective's own, with what it wants for them."""
        own = list(self.objective.parameters())
        return [{"params": list(self.model.parameters())}] + (
            [{"params": own, **self.objective.optimizer_options()}] if own else []
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `nelbo.load` needs."""
        checkpoint[RECORD] = {"format": FORMAT, **self.record}

    def metric_names(self, stage: str) -> list[str]:
        """The metrics of `val` or `test`, such as test/nelbo."""
        return [str(name) for name in self._metrics(stage).keys()]

    def _metrics(self, stage: str) -> MetricCollection:
        metrics = self.stage_metrics[f"{stage}_"]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _begin_evaluation(self) -> None:
        self._isolation.enter_context(isolate_rng())
        torch.manual_seed(EVALUATION_SEED)
        self.model.advance(math.inf)

    def _end_evaluation(self, stage: str) -> None:
        metrics = self._metrics(stage)
        # Already reduced over processes by torchmetrics; sync_dist only tells Lightning so.
        self.log_dict(metrics.compute(), sync_dist=True)
        metrics.reset()
        self._isolation.close()


def by_examples(loss: Tensor, shares: Shares) -> Tensor:
    """The same loss, whose gradient counts by the examples of this process where they have not equally many.

    DDP takes the plain mean over processes.
    """
    if shares.weight != 1:
        loss.register_hook(lambda gradient: shares.weight * gradient)
    return loss
