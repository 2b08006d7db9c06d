"""The LightningModule that trains every model: it connects model, objective, metrics and optimiser."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.enums import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MetricCollection

from nelbo.checkpoints.record import AVERAGING, FORMAT, RECORD
from nelbo.config.build import Factory
from nelbo.data.items import as_batch
from nelbo.metrics import ExampleMean, KLPerUnit, standard_metrics
from nelbo.models import Model
from nelbo.numerics.compat import skip_flag
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.objectives import Objective
from nelbo.trace import Trace
from nelbo.training import compat, schedulers
from nelbo.training.averaging import EMA, resume
from nelbo.training.batches import evaluation_trace, example_trace, training_trace, weight_by_examples
from nelbo.training.foreign import resume_accumulation
from nelbo.training.hooks import QuickAttributes, disable_empty_hooks
from nelbo.training.muon import Muon
from nelbo.training.rates import constant

SCHEDULE = "schedule"
"""The key in a checkpoint for the optimiser's class and the state of its scheduler."""

EVALUATION_SEED = 0
"""Seed of the noise of validation and test, which is the same every time so that epochs can be compared."""


class VAEModule(QuickAttributes):
    """Minimises an objective over the parameters of a model.

    Args:
        model: the model to train.
        objective: the objective to minimise, in nats per image.
        optimizer: constructs the optimiser from parameter groups.
        scheduler: constructs the learning-rate scheduler (`make_scheduler`); None for a constant rate.
        example: a trace of the model, which decides on the metrics that apply; None for one of black images.
        dequantized_levels: number of levels of the pixels before uniform noise was added; None without such noise.
        record: the model's config and what else a checkpoint holds about the run, in plain containers; None where there
            is no config, as for objects that were made in Python: `nelbo.load` cannot read such a checkpoint.
        averaging: constructs the average of the parameters that validation, test and checkpoints have in place of the
            parameters, and that these are when training has ended, such as `partial(EMA, decay=0.999)`; None for none.
        lr_warm_up: steps of a linear rise of the learning rate before the scheduler, or a share of all steps.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        optimizer: Callable[..., Optimizer],
        scheduler: Factory | None = None,
        example: Trace | None = None,
        dequantized_levels: int | None = None,
        record: dict[str, Any] | None = None,
        averaging: Callable[..., EMA] | None = None,
        lr_warm_up: int | float = 0,
    ) -> None:
        super().__init__()
        example = example_trace(model) if example is None else example
        self.model, self.objective, self.example = model, objective, example
        self.optimizer, self.record = optimizer, {} if record is None else record
        self.scheduler = Factory(constant, {}, "scheduler") if scheduler is None else scheduler
        self.terms: dict[str, Tensor | float] = {}
        self.last_trace: Trace | None = None
        self.loss: Tensor | None = None
        """The objective on the last batch, without Lightning's division by the number of batches per update."""
        self.total_steps: int | None = None
        """Optimiser steps of the whole of training, for learning-rate schedules; None for Lightning's estimate."""
        self.stage_metrics = nn.ModuleDict(
            {
                f"{stage}_": standard_metrics(example, f"{stage}/", dequantized_levels=dequantized_levels)
                for stage in ("val", "test")
            }
        )
        # The best checkpoint has the lowest value of this: the objective with its schedules at their final values.
        self.validation_objective = ExampleMean(lambda trace: objective(trace, math.inf).total.expand(len(trace.x)))
        self.kl_per_unit = KLPerUnit(example) if KLPerUnit.applies(example) else None
        self.unit_kl: Tensor | None = None
        """KL of each latent unit of all levels (U,) in nats, averaged over the last validation; None if undefined."""
        self.averaging, self.lr_warm_up = averaging, lr_warm_up
        self.average: EMA | None = None
        """The average of the parameters, once training has started; None if there is none."""
        self._isolation = contextlib.ExitStack()
        self._saved_schedule: dict[str, Any] | None = None
        self._saved_average: dict[str, Any] | None = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the saved schedule until training starts, and discard the state of an optimiser of another class."""
        self.average, self._saved_average = None, checkpoint.get(AVERAGING)
        self._saved_schedule = checkpoint.get(SCHEDULE, {})
        compat.clear_scheduler_states(checkpoint)
        if schedulers.is_of_other_class(self.optimizer(self.parameter_groups()), self._saved_schedule):
            compat.clear_optimizer_states(checkpoint)

    def on_fit_start(self) -> None:
        """Start the average of the parameters; in a resumed run, set the parameters to the checkpoint's raw weights."""
        parameters = dict(self.named_parameters(remove_duplicate=False))
        if self.averaging is not None and self.average is None:
            self.average = self.averaging(parameters)
        if self.average is not None and self.average.is_in_use:  # the module has been trained before
            self.average.exchange()
        if self._saved_average is not None:
            resume(parameters, self.average, self._saved_average)
            self._saved_average = None

    def on_train_start(self) -> None:
        """Set the optimiser's options and schedule to the config's, in place of those that a checkpoint restored."""
        if self._saved_schedule is not None:
            schedulers.resume(
                self.trainer, self.scheduler, self.parameter_groups(), self._saved_schedule, self.lr_warm_up
            )
        resume_accumulation(self.trainer)
        disable_empty_hooks(self, compat.callbacks_of(self.trainer))

    def on_train_end(self) -> None:
        """Leave the model with the average of its parameters."""
        if self.average is not None and not self.average.is_in_use:
            self.average.exchange()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make a step of the optimiser, and average the new parameters in, unless their update was skipped."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # The guard removes all gradients of an update that it skips, or sets a flag on the device.
        if self.average is not None and any(parameter.grad is not None for parameter in self.parameters()):
            self.average.update(skip_flag(optimizer))

    def averaged_weights(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the parameters hold their average, if there is one."""
        return contextlib.nullcontext() if self.average is None else self.average.in_use()

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Step the schedule, except ReduceLROnPlateau, which is stepped after validations."""
        if not isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients as the Trainer says.

        Lightning refuses to clip with a fused optimiser in mixed precision, because of the factor by which losses in
        float16 are scaled. In bfloat16 there is no such factor.
        """
        plugin = self.trainer.precision_plugin
        if isinstance(plugin, MixedPrecision) and plugin.scaler is None:
            kind = GradClipAlgorithmType(gradient_clip_algorithm or GradClipAlgorithmType.NORM)
            Precision.clip_gradients(plugin, optimizer, gradient_clip_val or 0, kind)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of a batch, and store `terms` and `last_trace` for callbacks until the batch ends."""
        scheduled, examples = self.model.advance(self.global_step), as_batch(batch)
        self.last_trace = training_trace(self.model, examples, self.objective.num_samples)
        loss = self.objective(self.last_trace, self.global_step)
        self.terms, self.loss = loss.terms | scheduled, loss.total.detach()
        return weight_by_examples(loss.total, self.last_trace.shares)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Free the memory of the trace, which callbacks have used by now."""
        self.last_trace = None

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the metrics of validation."""
        with self._without_autocast():
            trace = self._trace(batch)
            self._metrics("val").update(trace)
            self.validation_objective.update(trace)
            if self.kl_per_unit is not None:
                self.kl_per_unit.update(trace)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the metrics of the test."""
        with self._without_autocast():
            self._metrics("test").update(self._trace(batch))

    def _trace(self, batch: Any) -> Trace:
        """Return the trace of a batch of validation or test."""
        return evaluation_trace(self.model, as_batch(batch), self.objective.num_samples)

    def on_validation_epoch_start(self) -> None:
        """Begin to draw the noise of evaluation."""
        self._begin_evaluation()

    def on_test_epoch_start(self) -> None:
        """Begin to draw the noise of evaluation."""
        self._begin_evaluation()

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, step ReduceLROnPlateau, and restore the random state of training."""
        objective = self.validation_objective.compute()
        self.log_dict({"val/objective": objective}, sync_dist=True)
        self.validation_objective.reset()
        if not self.trainer.sanity_checking:
            schedulers.step_plateau(self.trainer, float(objective))
        if self.kl_per_unit is not None:
            self.unit_kl = self.kl_per_unit.values()
            self.kl_per_unit.reset()
        self._end_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics and restore the random state."""
        self._end_evaluation("test")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimiser of the model's and the objective's parameters, and its schedule, stepped each step."""
        optimizer = self.optimizer(self.parameter_groups())
        if isinstance(optimizer, Muon):
            optimizer.set_names({parameter: name for name, parameter in self.named_parameters()})
        total = schedulers.total_steps(self.trainer)
        scheduler = schedulers.make_scheduler(self.scheduler, optimizer, total, self.lr_warm_up)
        # reduce_on_plateau stays off: with it Lightning steps ReduceLROnPlateau after checkpoints are written.
        options = {"scheduler": scheduler, "interval": "step", "reduce_on_plateau": False}
        return {"optimizer": optimizer, "lr_scheduler": options}  # type: ignore[typeddict-item]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return a group of the model's parameters and, if it has any, one of the objective's with its own options."""
        own = list(self.objective.parameters())
        return [{"params": list(self.model.parameters())}] + (
            [{"params": own, **self.objective.optimizer_options()}] if own else []
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record that `nelbo.load` needs and averages, and omit scheduler states, which a resumed run makes."""
        compat.clear_scheduler_states(checkpoint)
        checkpoint[SCHEDULE] = schedulers.state(self.trainer)
        checkpoint[RECORD] = {"format": FORMAT, **self.record}
        if self.average is not None:
            self.average.add_to(checkpoint)

    def metric_names(self, stage: str) -> list[str]:
        """Return the names of the metrics of a stage, `val` or `test`, such as test/nelbo."""
        return [str(name) for name in self._metrics(stage).keys()]

    def _metrics(self, stage: str) -> MetricCollection:
        metrics = self.stage_metrics[f"{stage}_"]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _without_autocast(self) -> torch.autocast:
        """Return a context that computes in float32: with bfloat16 training Lightning wraps each step in autocast."""
        return torch.autocast(self.device.type, enabled=False)

    def _begin_evaluation(self) -> None:
        self._isolation.enter_context(isolated(EVALUATION_SEED))
        self._isolation.enter_context(float32(IEEE))
        self._isolation.enter_context(self.averaged_weights())
        self.model.advance(math.inf)

    def _end_evaluation(self, stage: str) -> None:
        metrics = self._metrics(stage)
        # torchmetrics has reduced them over processes already; sync_dist averages equal values and avoids a warning.
        self.log_dict(metrics.compute(), sync_dist=True)
        metrics.reset()
        self._isolation.close()
