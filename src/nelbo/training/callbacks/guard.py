"""The callback that stops a run before an update with values that are not finite, or a checkpoint of such values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nelbo.errors import ConfigError, Diverged, number
from nelbo.numerics import compat, devices
from nelbo.numerics.randomness import torch_states
from nelbo.training.callbacks.checkpoints import MONITOR
from nelbo.training.callbacks.crash import Failure, Start, failure
from nelbo.training.callbacks.divergence import HINT, stop
from nelbo.training.callbacks.late import Batch, LateChecks, Report, Step
from nelbo.training.module import VAEModule

MAX_SKIPPED_IN_A_ROW = 100
"""Number of skipped updates in a row after which the run stops."""


class Guard(pl.Callback):
    """Stops a diverged run before the update, with a message that names step and term, and with a bundle to replay.

    Each step is checked by all of its gradients, after these were averaged over processes. A loss that is not finite is
    given gradients that are not finite, so that all processes notice it and stop. If a step has several batches, the
    message names the batch whose gradients are not finite, with its loss undivided.

    It also counts the updates that it skips and, if the Trainer clips gradients, those that are clipped.

    On the CPU it reads the gradients before each update. On another device the processor would wait for the device, so
    the optimiser itself makes no update if a flag on the device says that the gradients are bad, and the
    guard reads the flag a step later (`LateChecks`): the run then stops with the message and the bundle of the bad
    step. That takes an optimiser with `fused=true`, or another one that supports PyTorch's `GradScaler`; with others
    the device waits in every step.

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
        self._parameters: dict[str, nn.Parameter] = {}
        self._buffers: list[tuple[nn.Module, str]] = []
        self._start: Start | None = None
        self._batch = 0
        self._failed: tuple[int, Failure] | None = None
        """The first batch of the step whose gradients were not finite, and the values of that batch."""
        self._late: LateChecks | None = None
        """The checks on the device, from the second update on: the first one gives the optimiser a state."""
        self._batches: list[Batch] = []
        self._report: Report | None = None
        """What was read and not yet acted upon."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the parameters and buffers that are used in every step."""
        self._parameters, self._late, self._report = dict(pl_module.named_parameters()), None, None
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
        self._batches = []

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Give a loss that is not finite gradients that are not finite; an infinite loss may have finite ones."""
        value = loss.detach()
        # Reading the value would wait for the forward pass on a GPU; adding zero to a gradient is cheaper.
        if not devices.reads_freely(loss.device) or not math.isfinite(value.item()):
            zero_if_finite = value - value
            loss.register_hook(lambda gradient: gradient + zero_if_finite)

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """If a step has several batches, store the first one whose gradients are not finite."""
        if self._late is not None:
            assert isinstance(pl_module, VAEModule) and pl_module.loss is not None
            names, *sizes = self._late.names(), *self._late.sizes()
            self._batches.append(Batch(self._batch, pl_module.loss, dict(pl_module.terms), names, *sizes))
        elif trainer.accumulate_grad_batches > 1 and self._failed is None and not _finite(self._gradients()):
            self._failed = (self._batch, _failure(pl_module))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Check the gradients of the step, and stop the run or skip the update.

        Raises:
            Diverged: if its gradients are not finite, and such updates are not skipped or are too many in a row.
            ConfigError: if too many updates in a row are skipped whose gradients are finite.
        """
        if self._late is None:
            compat.set_skip(optimizer, None)
            made = self._check_now(trainer, pl_module, optimizer)
            if made and not devices.reads_freely(pl_module.device) and compat.can_skip_on_device(optimizer):
                self._check_late_from_now_on(trainer, pl_module)
        else:
            self._settle(trainer, pl_module)
            bad = self._check_late(self._late, trainer)
            compat.set_skip(optimizer, bad)
        if trainer.gradient_clip_val or self.skip_above is not None:
            assert isinstance(pl_module, VAEModule)
            counts = self.counts(trainer) if self._late is None else self._late.logged(self.counts(trainer))
            pl_module.terms |= counts  # TrainingScalars logs all terms

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]

    def _check_now(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> bool:
        """Check the gradients, stop the run or skip the update, and return whether it is made."""
        bound, gradients = trainer.gradient_clip_val, self._gradients()
        if self.skip_above is None and not bound:
            if not _finite(gradients):
                self._stop_now(trainer, pl_module)
            return True
        norm = torch.nn.utils.get_total_norm(gradients).item()
        if self.skip_above is None and not math.isfinite(norm):
            self._stop_now(trainer, pl_module)
        self.in_a_row = 0 if self.skip_above is None or norm <= self.skip_above else self.in_a_row + 1
        if self.in_a_row:
            self.skipped += 1
            if self.in_a_row >= MAX_SKIPPED_IN_A_ROW:
                if not math.isfinite(norm):
                    self._stop_now(trainer, pl_module)
                self._refuse_bound(norm)
            optimizer.zero_grad(set_to_none=True)  # an optimiser skips parameters without a gradient
            self._restore_buffers()
        elif bound:
            by_value = trainer.gradient_clip_algorithm == "value"
            size = torch.nn.utils.get_total_norm(gradients, math.inf).item() if by_value else norm
            self.clipped += size > bound
        return not self.in_a_row

    def _check_late_from_now_on(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._late = LateChecks(
            self._parameters,
            pl_module.device,
            skip_above=self.skip_above,
            clip=float(trainer.gradient_clip_val or 0),
            by_value=trainer.gradient_clip_algorithm == "value",
            counts=(self.skipped, self.in_a_row, self.clipped),
        )

    @torch.no_grad()
    def _check_late(self, late: LateChecks, trainer: pl.Trainer) -> Tensor:
        """Start the check of the gradients on the device; return the flag that tells the optimiser to skip."""
        assert self._start is not None
        bad = late.check(Step(trainer.global_step, self._start, self._batch, self._batches))
        if self.skip_above is not None:  # otherwise the run stops, and restores them then
            for (owner, name), before in zip(self._buffers, self._start.buffers, strict=True):
                value = getattr(owner, name)
                value.copy_(torch.where(bad.bool(), before, value))
        return bad

    def _read(self) -> None:
        """Read the result of the last step that was checked on the device, if there is one."""
        if self._late is not None and (report := self._late.report()) is not None:
            self.skipped, self.in_a_row, self.clipped = report.skipped, report.in_a_row, report.clipped
            self._report = report if report.bad else None

    def _settle(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the run if the last step that was checked on the device requires it."""
        self._read()
        report, self._report = self._report, None
        if report is None:
            return
        too_many = self.in_a_row >= MAX_SKIPPED_IN_A_ROW
        if self.skip_above is None or (too_many and not math.isfinite(report.norm)):
            self._restore(report.step.start)
            stop(self.folder, self.config, trainer, pl_module, report.step, *report.step.failure())
        if too_many:
            self._refuse_bound(report.norm)
        assert isinstance(pl_module, VAEModule)
        if pl_module.average is not None:
            pl_module.average.updates -= 1

    def _refuse_bound(self, norm: float) -> NoReturn:
        hint = f"the last {self.in_a_row} updates were all above it, the last one at {norm:.4g}; increase it"
        raise ConfigError("guard.skip_above", self.skip_above, hint, located=True)

    def counts(self, trainer: pl.Trainer) -> dict[str, float]:
        """Return the numbers of updates skipped and clipped so far; one without a bound is missing."""
        counts = {"skipped_steps": float(self.skipped)} if self.skip_above is not None else {}
        return counts | ({"clipped_steps": float(self.clipped)} if trainer.gradient_clip_val else {})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the numbers of updates skipped and clipped so far."""
        self._settle(trainer, pl_module)
        if counts := {f"train/{name}": count for name, count in self.counts(trainer).items()}:
            for logger in trainer.loggers:
                logger.log_metrics(counts, step=trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the run before a validation if the last step requires it."""
        self._settle(trainer, pl_module)

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
        self._settle(trainer, pl_module)
        for name, value in _tensors({key: checkpoint[key] for key in ("state_dict", "optimizer_states")}):
            if not value.isfinite().all():
                raise Diverged(f"training diverged {_by(trainer)}: {name} is not finite; {HINT}")

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of skipped and clipped updates."""
        self._read()
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "clipped": self.clipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; checkpoints of earlier versions have none of clipped updates."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.clipped = state_dict.get("clipped", 0)

    def _restore_buffers(self) -> None:
        assert self._start is not None
        self._restore(self._start)

    @torch.no_grad()
    def _restore(self, start: Start) -> None:
        for (owner, name), value in zip(self._buffers, start.buffers, strict=True):
            getattr(owner, name).copy_(value)

    def _stop_now(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> NoReturn:
        assert self._start is not None
        batch, failed = self._failed or (self._batch, _failure(pl_module))
        self._restore_buffers()  # a checkpoint that is written after this has the values before the step
        step = Step(trainer.global_step, self._start, self._batch)
        stop(self.folder, self.config, trainer, pl_module, step, batch, failed)


def _failure(pl_module: pl.LightningModule) -> Failure:
    """Return the values of the batch that was processed last."""
    assert isinstance(pl_module, VAEModule) and pl_module.loss is not None
    return failure(pl_module.loss, pl_module.terms, pl_module)


def _finite(tensors: list[Tensor]) -> bool:
    """Return whether all numbers in tensors are finite, by their sum, which takes half the time of a norm."""
    if tensors and not devices.reads_freely(tensors[0].device):  # a norm takes one kernel for all tensors
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
