"""The one LightningModule: a model, an objective, metrics and an optimiser. No maths in it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from nelbo.checkpoints.record import FORMAT, RECORD
from nelbo.config.build import Factory
from nelbo.metrics import ExampleMean, KLPerUnit, standard_metrics
from nelbo.models import VAE
from nelbo.numerics.collectives import Shares
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.objectives import Objective
from nelbo.trace import Trace
from nelbo.training import compat, schedulers
from nelbo.training.foreign import go_on_accumulating
from nelbo.training.hooks import leave_out_idle_hooks

SCHEDULE = "schedule"
"""The key of a checkpoint under which what is saved of the optimiser's class and its scheduler stands."""

EVALUATION_SEED = 0
"""Validation and test draw the same noise every time, so that epochs compare fairly."""


class VAEModule(pl.LightningModule):
    """Trains `model` on `objective`.

    Args:
        model: has `trace(x, num_samples)`.
        objective: what is minimised.
        optimizer: called with the parameters.
        scheduler: called with the optimizer and, where it asks for that, the number of steps (`make_scheduler`).
        example: a trace of the model, for the metrics that have a meaning for such traces.
        dequantized_levels: how many levels uniform noise has filled, if the pixels are such.
        record: the model's plain config and what else a checkpoint should carry, in plain containers.
    """

    def __init__(
        self,
        model: VAE,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Factory,
        example: Trace,
        dequantized_levels: int | None,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.objective, self.example = model, objective, example
        self.optimizer, self.scheduler, self.record = optimizer, scheduler, record
        self.terms: dict[str, Tensor | float] = {}
        self.last_trace: Trace | None = None
        self.loss: Tensor | None = None
        """Of the batch, as the objective says it: Lightning divides it where gradients are summed over batches."""
        self.total_steps: int | None = None
        """Of all of training, for learning-rate schedules; None: as Lightning estimates them."""
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
        self._saved_schedule: dict[str, Any] | None = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what it says of the schedule until training starts; forget the state of another class of optimiser."""
        self._saved_schedule = checkpoint.get(SCHEDULE, {})
        compat.clear_scheduler_states(checkpoint)
        if schedulers.is_of_another(self.optimizer(self.parameter_groups()), self._saved_schedule):
            compat.clear_optimizer_states(checkpoint)

    def on_train_start(self) -> None:
        """The optimiser's options and its schedule are the config's: a checkpoint brings those it was written with."""
        if self._saved_schedule is not None:
            schedulers.go_on(self.trainer, self.scheduler, self.parameter_groups(), self._saved_schedule)
        go_on_accumulating(self.trainer)
        leave_out_idle_hooks(self, compat.callbacks_of(self.trainer))

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """One step of the schedule; ReduceLROnPlateau takes its steps after validations instead."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch; until the batch ends, callbacks may look at its `terms` and `last_trace`."""
        scheduled = self.model.advance(self.global_step)
        self.last_trace = self.model.trace(batch[0], self.objective.num_samples)
        loss = self.objective(self.last_trace, self.global_step)
        self.terms, self.loss = loss.terms | scheduled, loss.total.detach()
        return by_examples(loss.total, self.last_trace.shares)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Callbacks have looked: free the trace before the next one is made."""
        self.last_trace = None

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        with self._without_autocast():
            trace = self.model.trace(batch[0], self.objective.num_samples)
            self._metrics("val").update(trace)
            self.validation_objective.update(trace)
            if self.kl_per_unit is not None:
                self.kl_per_unit.update(trace)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count a batch."""
        with self._without_autocast():
            self._metrics("test").update(self.model.trace(batch[0], self.objective.num_samples))

    def on_validation_epoch_start(self) -> None:
        """The noise of evaluation begins."""
        self._begin_evaluation()

    def on_test_epoch_start(self) -> None:
        """The noise of evaluation begins."""
        self._begin_evaluation()

    def on_validation_epoch_end(self) -> None:
        """Log, and give training its random state back."""
        objective = self.validation_objective.compute()
        self.log_dict({"val/objective": objective}, sync_dist=True)
        self.validation_objective.reset()
        if not self.trainer.sanity_checking:
            schedulers.follow(self.trainer, float(objective))
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
        total = schedulers.total_steps(self.trainer)
        scheduler = schedulers.make_scheduler(self.scheduler, optimizer, total)
        # ReduceLROnPlateau is no exception: Lightning would step it after checkpoints are written.
        options = {"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": options}  # type: ignore[typeddict-item]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The model's parameters and, where it has any, the objective's own, with what it wants for them."""
        own = list(self.objective.parameters())
        return [{"params": list(self.model.parameters())}] + (
            [{"params": own, **self.objective.optimizer_options()}] if own else []
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `nelbo.load` needs, and leave out what a run that goes on makes anew."""
        compat.clear_scheduler_states(checkpoint)
        checkpoint[SCHEDULE] = schedulers.state(self.trainer)
        checkpoint[RECORD] = {"format": FORMAT, **self.record}

    def metric_names(self, stage: str) -> list[str]:
        """The metrics of `val` or `test`, such as test/nelbo."""
        return [str(name) for name in self._metrics(stage).keys()]

    def _metrics(self, stage: str) -> MetricCollection:
        metrics = self.stage_metrics[f"{stage}_"]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _without_autocast(self) -> torch.autocast:
        """In float32 inside: Lightning opens autocast around each step where training computes in bfloat16."""
        return torch.autocast(self.device.type, enabled=False)

    def _begin_evaluation(self) -> None:
        self._isolation.enter_context(isolated(EVALUATION_SEED))
        self._isolation.enter_context(float32(IEEE))
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
