"""Training scalars and throughput, at a cost that cannot be measured."""

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
from nelbo.training.clock import Clock, is_first_process, over_processes
from nelbo.training.module import VAEModule


class Throughput(pl.Callback):
    """Seconds spent in training batches and images seen, over all processes; no validation or pictures.

    Seconds are those of the wall and, added up over processes and their data loaders' workers, of the processors.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.images = 0
        self.cpu_seconds: float | None = None
        """Of all processes, once training has ended; None where an earlier version did not count them."""
        self._paused = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: in the middle of an epoch that goes on, nobody says that it begins."""
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
        """Count a batch; the last one of the epoch stops the clock, before validation begins."""
        self.images += len(batch[0]) * trainer.world_size
        if trainer.is_last_batch:
            self.clock.stop(pl_module.device)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock for a validation within an epoch."""
        self._paused = self.clock.is_running
        if self._paused:
            self.clock.stop(pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on."""
        if self._paused:
            self.clock.start()
        self._paused = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock of an epoch that ended before its last batch."""
        if self.clock.is_running:
            self.clock.stop(pl_module.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add up the processes."""
        self.cpu_seconds = over_processes(self.clock.cpu_seconds)

    @property
    def seconds(self) -> float:
        """Spent in the epochs that are over."""
        return self.clock.seconds

    @property
    def rate(self) -> float:
        """Images a second; 0 before the first epoch is over."""
        return self.images / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint, in every process; in the middle of an epoch, with what it took so far."""
        seconds, cpu_seconds = self.clock.read()
        return {"seconds": seconds, "images": self.images, "cpu_seconds": over_processes(cpu_seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint, whose processor time is that of all processes: the first of them takes it over."""
        self.images = state_dict["images"]
        earlier = state_dict.get("cpu_seconds")
        self.clock = Clock(state_dict["seconds"], earlier if is_first_process() or earlier is None else 0.0)


class TrainingScalars(pl.Callback):
    """Logs the objective's terms, learning rate, gradient norm and images/s; once an epoch the active units.

    Written to the loggers directly: `self.log` in every step is slow on small models.

    Every `trainer.log_every_n_steps` steps, and after the first; the active units are those of the batches logged.
    """

    def __init__(self) -> None:
        self._active_units: ActiveUnits | None = None
        self._restored: dict[str, Tensor] | None = None
        self._gradient_norm: Tensor | None = None
        self._mark = (0, 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on counting, in the middle of an epoch."""
        self._mark = (trainer.global_step, time.perf_counter())
        if self._restored is not None:
            assert isinstance(pl_module, VAEModule)
            self._active_units = ActiveUnits(pl_module.example).to(pl_module.device)
            if trainer.is_global_zero:  # it goes on with what all processes counted, the others with nothing
                self._active_units.restore(self._restored)
            compat.mark_updated(self._active_units)  # else an epoch that only has its end left is called empty

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock for images/s."""
        self._mark = (trainer.global_step, time.perf_counter())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """The gradient norm, before any clipping."""
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
        """Log, when due."""
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
            _log(trainer, {"train/active_units": float(self._active_units.compute())})
        self._active_units = None

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: in the middle of an epoch, what the units did in it so far, in all processes."""
        if self._active_units is None:
            return {"active_units": None}
        with self._active_units.sync_context():
            return {"active_units": dict(self._active_units.metric_state)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self._restored = state_dict["active_units"]

    def _count_units(self, trace: Trace | None) -> None:
        assert trace is not None
        if not ActiveUnits.applies(trace):
            return
        if self._active_units is None:
            self._active_units = ActiveUnits(trace).to(trace.x.device)
        with isolated():  # a flow's means are averages of samples, and looking must not change the training
            self._active_units.update(trace)


def _log(trainer: pl.Trainer, values: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def _is_due(trainer: pl.Trainer, step: int) -> bool:
    every = compat.log_interval(trainer)
    return step == 1 or (every > 0 and step % every == 0)
