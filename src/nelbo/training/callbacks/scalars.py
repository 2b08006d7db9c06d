"""Training scalars and throughput, logged at negligible cost."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from nelbo.metrics import ActiveUnits
from nelbo.numerics.randomness import isolated
from nelbo.trace import Trace
from nelbo.training import compat
from nelbo.training.clock import Clock, is_first_process, sum_over_processes
from nelbo.training.module import VAEModule


class Throughput(pl.Callback):
    """Measures the seconds spent in training batches and the images seen, without validations and pictures.

    Seconds are wall-clock time and, added up over processes and their data loaders' workers, processor time. Images are
    those of all processes.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.images = 0
        self.cpu_seconds: float | None = None
        """Processor seconds of all processes after training; None if an earlier version of nelbo did not count them."""
        self._paused = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, because a run that is resumed within an epoch has no `on_train_epoch_start`."""
        self.clock.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.clock.start()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the images of a batch, and stop the clock after the last batch of an epoch, before its validation."""
        self.images += len(batch[0]) * trainer.world_size
        if trainer.is_last_batch:
            self.clock.stop(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock for a validation within an epoch."""
        self._paused = self.clock.is_running
        if self._paused:
            self.clock.stop(pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock after a validation within an epoch."""
        if self._paused:
            self.clock.start()
        self._paused = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock if the epoch ended before its last batch."""
        if self.clock.is_running:
            self.clock.stop(pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add up the processor seconds of all processes."""
        self.cpu_seconds = sum_over_processes(self.clock.cpu_seconds)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of training batches up to the last stop of the clock."""
        return self.clock.seconds

    @property
    def rate(self) -> float:
        """Images per second; 0 before the clock has stopped once."""
        return self.images / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return seconds and images so far; to be called in every process."""
        seconds, cpu_seconds = self.clock.read()
        return {"seconds": seconds, "images": self.images, "cpu_seconds": sum_over_processes(cpu_seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore seconds and images; the first process takes over the processor time of all processes."""
        self.images = state_dict["images"]
        earlier = state_dict.get("cpu_seconds")
        self.clock = Clock(state_dict["seconds"], earlier if is_first_process() or earlier is None else 0.0)


class TrainingScalars(pl.Callback):
    """Logs the objective's terms, the learning rate, the gradient norm, images per second and the active units.

    It logs after the first step and every `trainer.log_every_n_steps` steps. Active units, with several levels of
    latents those of the top level, are logged at the end of an epoch, over the batches whose terms were logged. Values
    are written to the loggers directly, because `self.log` in every step is slow for small models.
    """

    def __init__(self) -> None:
        self._active_units: ActiveUnits | None = None
        self._restored: dict[str, Tensor] | None = None
        self._gradient_norm: Tensor | None = None
        self._mark = (0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock for images per second, and restore the active units of an epoch that is resumed."""
        self._mark = (trainer.global_step, time.perf_counter())
        if self._restored is not None:
            assert isinstance(pl_module, VAEModule)
            self._active_units = ActiveUnits(pl_module.example).to(pl_module.device)
            if trainer.is_global_zero:  # the first process takes over the sums of all processes
                self._active_units.restore(self._restored)
            compat.mark_updated(self._active_units)  # otherwise it warns if no batch of the epoch follows

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock for images per second."""
        self._mark = (trainer.global_step, time.perf_counter())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Compute the gradient norm before any clipping, if the step will be logged."""
        if _is_due(trainer, trainer.global_step + 1):
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the scalars, if they are due."""
        step = trainer.global_step
        if self._gradient_norm is None:
            return
        assert isinstance(pl_module, VAEModule)
        values = {f"train/{name}": float(value) for name, value in pl_module.terms.items()}
        values["train/gradient_norm"] = float(self._gradient_norm)
        values["train/learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        marked_step, marked_time = self._mark
        if step > marked_step:
            seconds = time.perf_counter() - marked_time
            images = (step - marked_step) * trainer.accumulate_grad_batches * len(batch[0]) * trainer.world_size
            values["train/images_per_second"] = images / seconds
        _log(trainer, values)
        self._count_units(pl_module.last_trace)
        self._mark, self._gradient_norm = (step, time.perf_counter()), None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the active units of the epoch."""
        if self._active_units is not None:
            assert isinstance(pl_module, VAEModule)
            name = pl_module.example.at_top("train/active_units")
            _log(trainer, {name: float(self._active_units.compute())})
        self._active_units = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the active units within an epoch, over all processes."""
        if self._active_units is None:
            return {"active_units": None}
        with self._active_units.sync_context():
            return {"active_units": dict(self._active_units.metric_state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of the active units until training starts."""
        self._restored = state_dict["active_units"]

    def _count_units(self, trace: Trace | None) -> None:
        assert trace is not None
        if not ActiveUnits.applies(trace):
            return
        if self._active_units is None:
            self._active_units = ActiveUnits(trace).to(trace.x.device)
        with isolated():  # means of a flow are averages of samples, and must not advance the random state of training
            self._active_units.update(trace)


def _log(trainer: pl.Trainer, values: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def _is_due(trainer: pl.Trainer, step: int) -> bool:
    every = compat.log_interval(trainer)
    return step == 1 or (every > 0 and step % every == 0)
