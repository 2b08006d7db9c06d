"""The callback that stops a run before an update with values that are not finite, or a checkpoint of such values."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nelbo.errors import ConfigError, Diverged, first_line, number
from nelbo.numerics.randomness import torch_states
from nelbo.training.callbacks.checkpoints import MONITOR
from nelbo.training.callbacks.crash import FOLDER, Failure, Start, failure, write_bundle
from nelbo.training.module import VAEModule

MAX_SKIPPED_IN_A_ROW = 100
"""Number of skipped updates in a row after which the run stops."""

HINT = "lower optimizer.lr, or clip with trainer.gradient_clip_val=1"


class Guard(pl.Callback):
    """Stops a diverged run before the update, with a message that names step and term, and with a bundle to replay.

    Each step is checked by all of its gradients, after these were averaged over processes. A loss that is not finite is
    given gradients that are not finite, so that all processes notice it and stop. If a step has several batches, the
    message names the batch whose gradients are not finite, with its loss undivided.

    It also counts the updates that it skips and, if the Trainer clips gradients, those that are clipped.

    Args:
        folder: the run's directory.
        config: the resolved config, in plain containers, for the bundle.
        skip_above: updates whose total gradient norm is larger than this, or NaN, are skipped and counted; None for no
            limit.

    Raises:
        ConfigError: if `skip_above` is not a positive number.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, skip_above: float | None) -> None:
        self.folder, self.config = folder, config
        self.skip_above = None if skip_above is None else number("skip_above", skip_above, positive=True)
        self.skipped = self.in_a_row = self.clipped = 0
        self._parameters: list[nn.Parameter] = []
        self._buffers: list[tuple[nn.Module, str]] = []
        self._start: Start | None = None
        self._batch = 0
        self._failed: tuple[int, Failure] | None = None
        """The first batch of the step whose gradients were not finite, and the values of that batch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the parameters and buffers that are used in every step."""
        self._parameters = list(pl_module.parameters())
        learned = {name for name, _ in pl_module.named_parameters()}
        names = [name.rpartition(".") for name in pl_module.state_dict() if name not in learned]
        self._buffers = [(pl_module.get_submodule(owner), name) for owner, _, name in names]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Store what the forward pass of the first batch of an update changes."""
        self._batch = batch_idx
        if batch_idx % trainer.accumulate_grad_batches and self._start is not None:
            return
        buffers = [getattr(owner, name).clone() for owner, name in self._buffers]
        self._start, self._failed = Start(batch_idx, torch_states(pl_module.device, others=False), buffers), None

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Give a loss that is not finite gradients that are not finite; an infinite loss may have finite ones."""
        value = loss.detach()
        # Reading the value would wait for the forward pass on a GPU; adding zero to a gradient is cheaper.
        if loss.device.type != "cpu" or not math.isfinite(value.item()):
            zero_if_finite = value - value
            loss.register_hook(lambda gradient: gradient + zero_if_finite)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """If a step has several batches, store the first one whose gradients are not finite."""
        if trainer.accumulate_grad_batches == 1 or self._failed is not None:
            return
        if not _finite([parameter.grad for parameter in self._parameters if parameter.grad is not None]):
            self._failed = (self._batch, _failure(pl_module))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Check the gradients of the step, and stop the run or skip the update.

        Raises:
            Diverged: if its gradients are not finite, and such updates are not skipped or are too many in a row.
            ConfigError: if too many updates in a row are skipped whose gradients are finite.
        """
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        bound = trainer.gradient_clip_val
        if self.skip_above is None and not bound:
            if not _finite(gradients):
                self._stop(trainer, pl_module)
            return
        norm = torch.nn.utils.get_total_norm(gradients).item()
        if self.skip_above is None and not math.isfinite(norm):
            self._stop(trainer, pl_module)
        self.in_a_row = 0 if self.skip_above is None or norm <= self.skip_above else self.in_a_row + 1
        if self.in_a_row:
            self.skipped += 1
            if self.in_a_row >= MAX_SKIPPED_IN_A_ROW:
                if not math.isfinite(norm):
                    self._stop(trainer, pl_module)
                hint = f"the last {self.in_a_row} updates were all above it, the last one at {norm:.4g}; increase it"
                raise ConfigError("guard.skip_above", self.skip_above, hint, located=True)
            optimizer.zero_grad(set_to_none=True)  # an optimiser skips parameters without a gradient
            self._restore_buffers()
        elif bound:
            by_value = trainer.gradient_clip_algorithm == "value"
            size = torch.nn.utils.get_total_norm(gradients, math.inf).item() if by_value else norm
            self.clipped += size > bound
        assert isinstance(pl_module, VAEModule)
        pl_module.terms |= self.counts(trainer)  # TrainingScalars logs all terms

    def counts(self, trainer: pl.Trainer) -> dict[str, float]:
        """Return the numbers of updates skipped and clipped so far; one without a bound is missing."""
        counts = {"skipped_steps": float(self.skipped)} if self.skip_above is not None else {}
        return counts | ({"clipped_steps": float(self.clipped)} if trainer.gradient_clip_val else {})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the numbers of updates skipped and clipped so far."""
        if counts := {f"train/{name}": count for name, count in self.counts(trainer).items()}:
            for logger in trainer.loggers:
                logger.log_metrics(counts, step=trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the objective on the validation set, which shows whether the last update of an epoch diverged.

        Raises:
            Diverged: if the objective on the validation set is not finite.
        """
        if trainer.sanity_checking:
            return
        value = float(trainer.callback_metrics[MONITOR])
        if not math.isfinite(value):
            raise Diverged(f"training diverged {_by(trainer)}: {MONITOR} is {value}; {HINT}")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check all tensors of a checkpoint before it is written, also without a validation set.

        Raises:
            Diverged: if a tensor of the model or the optimiser is not finite; nothing is written.
        """
        for name, value in _tensors({key: checkpoint[key] for key in ("state_dict", "optimizer_states")}):
            if not value.isfinite().all():
                raise Diverged(f"training diverged {_by(trainer)}: {name} is not finite; {HINT}")

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of skipped and clipped updates."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "clipped": self.clipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; checkpoints of earlier versions have none of clipped updates."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.clipped = state_dict.get("clipped", 0)

    @torch.no_grad()
    def _restore_buffers(self) -> None:
        assert self._start is not None
        for (owner, name), value in zip(self._buffers, self._start.buffers, strict=True):
            getattr(owner, name).copy_(value)

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> NoReturn:
        assert self._start is not None
        batch, failed = self._failed or (self._batch, _failure(pl_module))
        self._restore_buffers()  # a checkpoint that is written after this has the values before the step
        what = f"{failed}; {HINT}; {self._leave_bundle(trainer, pl_module, batch, failed)}"
        where = f"epoch {trainer.current_epoch + 1}, batch {batch + 1}"
        if (total := self._batch - self._start.batch + 1) > 1:
            where += f", {batch - self._start.batch + 1} of {total} in this step"
        raise Diverged(f"training diverged at step {trainer.global_step} ({where}): {what}")

    def _leave_bundle(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: int, failed: Failure) -> str:
        """Write the bundle, and return a hint on how to replay it."""
        # Gradients are averaged over processes in the last batch of a step, so earlier ones fail in their own process.
        if trainer.world_size > 1 and not _is_cause(trainer, failed, batch < self._batch):
            return f"the cause is in another process: see {os.path.relpath(self.folder / FOLDER)}"
        assert self._start is not None
        try:
            file = write_bundle(self.folder, trainer, pl_module, self._start, batch, failed, self.config)
        except (OSError, RuntimeError) as error:  # torch wraps the errors of its stream
            return f"there is nothing to replay, because the bundle cannot be written: {first_line(error)}"
        return f"replay: {shlex.join(['python', 'scripts/replay.py', f'bundle={os.path.relpath(file)}'])}"


def _is_cause(trainer: pl.Trainer, failed: Failure, earlier: bool) -> bool:
    """Return whether the failure has its cause in this process, or in no process alone.

    Reconstruction and KL depend on this process's images only; a loss may depend on those of all processes.

    Args:
        trainer: the Trainer, which communicates with the other processes.
        failed: the values of the step.
        earlier: whether the failed batch is not the last one of its step.
    """
    for own in (earlier or failed.is_of_own_terms, failed.is_of_loss):
        if trainer.strategy.reduce_boolean_decision(own, all=False):
            return own
    return True


def _failure(pl_module: pl.LightningModule) -> Failure:
    """Return the values of the batch that was processed last."""
    assert isinstance(pl_module, VAEModule) and pl_module.loss is not None
    return failure(pl_module.loss, pl_module.terms, pl_module)


def _finite(tensors: list[Tensor]) -> bool:
    """Return whether all numbers in tensors are finite, by their sum, which takes half the time of a norm."""
    if tensors and tensors[0].device.type != "cpu":  # a norm takes one kernel for all tensors
        return math.isfinite(torch.nn.utils.get_total_norm(tensors).item())
    return math.isfinite(sum(tensor.sum().item() for tensor in tensors))


def _tensors(content: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in nested containers with their paths, such as `state_dict.model.encoder.weight`."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping | list | tuple):
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from _tensors(value, f"{path}.{key}" if path else str(key))


def _by(trainer: pl.Trainer) -> str:
    return f"by step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
