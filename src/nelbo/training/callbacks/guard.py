"""No update is made from a number that is not finite, and no checkpoint holds one."""

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

MOST_IN_A_ROW = 100
"""So many updates left out one after another are no outliers any more."""

HINT = "lower optimizer.lr, or clip with trainer.gradient_clip_val=1"


class Guard(pl.Callback):
    """Stops a run that diverges before it updates: one line that names step and term, and a bundle to replay.

    Each step is judged by its gradients, all of them, after processes have averaged theirs: a loss that is not finite
    makes them so, which is how the other processes learn of it and stop too. Where a step sums the gradients of several
    batches, the one that spoilt the sum is named, with its loss as the objective says it, undivided.

    Args:
        folder: the run's directory.
        config: resolved, in plain containers, for the bundle.
        skip_above: updates whose total gradient norm is not at most this are left out, and counted; None for none.

    Raises:
        ConfigError: if `skip_above` is no positive number.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], *, skip_above: float | None) -> None:
        self.folder, self.config = folder, config
        self.skip_above = None if skip_above is None else number("skip_above", skip_above, positive=True)
        self.skipped = self.in_a_row = 0
        self._parameters: list[nn.Parameter] = []
        self._buffers: list[tuple[nn.Module, str]] = []
        self._start: Start | None = None
        self._batch = 0
        self._spoilt: tuple[int, Failure] | None = None
        """The batch whose gradients made the sum of those of its step not finite, and what was not."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look up once what every step looks at."""
        self._parameters = list(pl_module.parameters())
        learned = {name for name, _ in pl_module.named_parameters()}
        names = [name.rpartition(".") for name in pl_module.state_dict() if name not in learned]
        self._buffers = [(pl_module.get_submodule(owner), name) for owner, _, name in names]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep what the forward pass changes: of the first batch of an update."""
        self._batch = batch_idx
        if batch_idx % trainer.accumulate_grad_batches and self._start is not None:
            return
        buffers = [getattr(owner, name).clone() for owner, name in self._buffers]
        self._start, self._spoilt = Start(batch_idx, torch_states(pl_module.device, others=False), buffers), None

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Let a loss that is not finite have no finite gradient: that of an infinite one can be."""
        value = loss.detach()
        # A GPU would have to end its forward pass before one could look; adding nothing to a gradient is cheaper.
        if loss.device.type != "cpu" or not math.isfinite(value.item()):
            zero_if_finite = value - value
            loss.register_hook(lambda gradient: gradient + zero_if_finite)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Where gradients are summed over several batches, remember the first that spoils the sum."""
        if trainer.accumulate_grad_batches == 1 or self._spoilt is not None:
            return
        if not _finite([parameter.grad for parameter in self._parameters if parameter.grad is not None]):
            self._spoilt = (self._batch, _failure(pl_module))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Judge the step.

        Raises:
            Diverged: if its gradients are not finite, and such are not left out.
            ConfigError: if every update is left out.
        """
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if self.skip_above is None:
            if not _finite(gradients):
                self._stop(trainer, pl_module)
            return
        norm = torch.nn.utils.get_total_norm(gradients).item()
        self.in_a_row = 0 if norm <= self.skip_above else self.in_a_row + 1
        if self.in_a_row:
            self.skipped += 1
            if self.in_a_row >= MOST_IN_A_ROW:
                if not math.isfinite(norm):
                    self._stop(trainer, pl_module)
                hint = f"the last {self.in_a_row} updates were all above it, the last at {norm:.4g}: raise it"
                raise ConfigError("guard.skip_above", self.skip_above, hint, located=True)
            optimizer.zero_grad(set_to_none=True)  # an optimiser passes over parameters without a gradient
            self._restore_buffers()
        assert isinstance(pl_module, VAEModule)
        pl_module.terms["skipped_steps"] = float(self.skipped)  # TrainingScalars writes it with the others

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log how many updates were left out so far."""
        if self.skip_above is not None:
            for logger in trainer.loggers:
                logger.log_metrics({"train/skipped_steps": float(self.skipped)}, step=trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last update of an epoch shows only here.

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
        """The last line: also without a validation set.

        Raises:
            Diverged: if a tensor of the model or the optimiser is not finite; nothing is written.
        """
        for name, value in _tensors({key: checkpoint[key] for key in ("state_dict", "optimizer_states")}):
            if not value.isfinite().all():
                raise Diverged(f"training diverged {_by(trainer)}: {name} is not finite; {HINT}")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    @torch.no_grad()
    def _restore_buffers(self) -> None:
        assert self._start is not None
        for (owner, name), value in zip(self._buffers, self._start.buffers, strict=True):
            getattr(owner, name).copy_(value)

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> NoReturn:
        assert self._start is not None
        batch, failed = self._spoilt or (self._batch, _failure(pl_module))
        self._restore_buffers()  # whoever saves after this saves what was
        what = f"{failed}; {HINT}; {self._leave_bundle(trainer, pl_module, batch, failed)}"
        where = f"epoch {trainer.current_epoch + 1}, batch {batch + 1}"
        if (total := self._batch - self._start.batch + 1) > 1:
            where += f", which is {batch - self._start.batch + 1} of the {total} of this step"
        raise Diverged(f"training diverged at step {trainer.global_step} ({where}): {what}")

    def _leave_bundle(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: int, failed: Failure) -> str:
        """What there is to replay."""
        # Processes share their gradients in the last batch of a step: what an earlier one spoilt is this process's own.
        if trainer.world_size > 1 and not _is_cause(trainer, failed, batch < self._batch):
            return f"the cause is in another process: see {os.path.relpath(self.folder / FOLDER)}"
        assert self._start is not None
        try:
            file = write_bundle(self.folder, trainer, pl_module, self._start, batch, failed, self.config)
        except (OSError, RuntimeError) as error:  # torch wraps what its stream raises
            return f"there is nothing to replay, for the bundle cannot be written: {first_line(error)}"
        return f"replay: {shlex.join(['python', 'scripts/replay.py', f'bundle={os.path.relpath(file)}'])}"


def _is_cause(trainer: pl.Trainer, failed: Failure, earlier: bool) -> bool:
    """Whether it went wrong in this process, or in none alone.

    Reconstruction and KL are those of its own images; a loss may be made of those of all processes.

    Args:
        trainer: which asks all processes.
        failed: what is not finite.
        earlier: whether that was in a batch before the last one of the step.
    """
    for own in (earlier or failed.is_of_own_terms, failed.is_of_loss):
        if trainer.strategy.reduce_boolean_decision(own, all=False):
            return own
    return True


def _failure(pl_module: pl.LightningModule) -> Failure:
    """What is not finite of the batch that is over."""
    assert isinstance(pl_module, VAEModule) and pl_module.loss is not None
    return failure(pl_module.loss, pl_module.terms, pl_module)


def _finite(tensors: list[Tensor]) -> bool:
    """Whether all numbers in them are: then their sum is, and a sum takes half the time of a norm."""
    if tensors and tensors[0].device.type != "cpu":  # one kernel for all
        return math.isfinite(torch.nn.utils.get_total_norm(tensors).item())
    return math.isfinite(sum(tensor.sum().item() for tensor in tensors))


def _tensors(content: object, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors in plain containers, by where they stand."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping | list | tuple):
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from _tensors(value, f"{path}.{key}" if path else str(key))


def _by(trainer: pl.Trainer) -> str:
    return f"by step {trainer.global_step} (epoch {trainer.current_epoch + 1})"
