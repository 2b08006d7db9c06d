"""What a run that diverged leaves behind: one file from which its last step can be made again, bit for bit.

Shapes: B batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from nelbo.checkpoints.environment import environment
from nelbo.data.loader import Batches
from nelbo.directories.names import CRASHES
from nelbo.files import atomic
from nelbo.training.callbacks.random_states import last_bits
from nelbo.training.callbacks.writer import data_of

CRASH = "nelbo_crash"
"""The bundle's key for its format number."""

FORMAT = 2
"""Of new bundles. Those of 1 have the random state of the CPU and of one CUDA device, and no `before` and `shares`."""

FORMATS = (1, FORMAT)
"""Those that can be replayed."""

FOLDER = CRASHES
"""Of a run's directory: where bundles are."""


@dataclass(frozen=True)
class Failure:
    """What was not finite.

    Args:
        loss: the objective, in nats.
        terms: of it, by name.
        gradients: names of the parameters whose gradient has no finite norm, where loss and terms are finite.
    """

    loss: float
    terms: Mapping[str, float]
    gradients: list[str]

    @property
    def is_of_loss(self) -> bool:
        """Whether the forward pass has it already."""
        return not all(map(math.isfinite, (self.loss, *self.terms.values())))

    @property
    def is_of_own_terms(self) -> bool:
        """Whether the reconstruction or the KL is not finite, which are of this process's images alone."""
        return not all(math.isfinite(self.terms.get(name, 0.0)) for name in ("reconstruction", "kl"))

    @property
    def not_finite(self) -> dict[str, float | None]:
        """Everything that is not, by name; gradients without a value."""
        values = {name: value for name, value in (*self.terms.items(), ("the loss", self.loss))}
        bad: dict[str, float | None] = {name: value for name, value in values.items() if not math.isfinite(value)}
        return bad | {f"the gradient norm of {name}": None for name in self.gradients}

    def __str__(self) -> str:
        bad = self.not_finite
        for sum_of_others in ("the loss", "nelbo"):  # so never the cause
            if len(bad) > 1:
                bad.pop(sum_of_others, None)
        if not bad:
            return "everything is finite"
        name, value = next(iter(bad.items()))
        if value is None:
            return f"{name}{f' and of {len(bad) - 1} others' if len(bad) > 1 else ''} is not finite"
        return ", ".join(f"{name} is {value}" for name, value in bad.items())


@dataclass(frozen=True)
class Start:
    """What the forward pass of a batch starts from and may change.

    Args:
        batch: its number in the epoch, from 0.
        random_states: torch's, of the CPU and of the device that the run is on.
        buffers: values of the module's persistent buffers.
    """

    batch: int
    random_states: Mapping[str, Any]
    buffers: list[Tensor]


def failure(loss: Tensor, terms: Mapping[str, Tensor | float], module: nn.Module) -> Failure:
    """What is not finite of a step, after its backward pass."""
    found = Failure(loss.item(), {name: float(value) for name, value in terms.items()}, [])
    if found.is_of_loss:
        return found
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    spoilt = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    # What is finite may be too large to be squared, as optimisers do.
    return Failure(found.loss, found.terms, spoilt or [k for k, v in gradients.items() if not v.norm().isfinite()])


def write_bundle(
    folder: Path,
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    start: Start,
    batch: int,
    failed: Failure,
    config: Mapping[str, Any],
) -> Path:
    """Write `crash/step-000123.pt` into a run's directory: plain containers and tensors, no state of the optimiser.

    Step, epoch and batch count from 0. The module's buffers must be those of `start`.

    Args:
        folder: the run's directory.
        trainer: which knows where it is.
        pl_module: whose weights are written.
        start: of the first batch of the update.
        batch: the number of the batch that failed, the same or a later one of the update.
        failed: what was not finite.
        config: of the run.

    Raises:
        OSError: if it cannot be written.
        RuntimeError: torch's, for the same reason.
    """
    assert trainer.train_dataloader is not None
    batches = trainer.train_dataloader.batch_sampler
    assert isinstance(batches, Batches)
    # Clones, for a view would bring all of them.
    rows = [indices.clone() for indices in batches.batches()[start.batch : batch + 1]]
    bundle = {
        CRASH: FORMAT,
        "config": dict(config),
        "epoch": trainer.current_epoch,
        "step": trainer.global_step,
        "batch": batch,
        "rank": trainer.global_rank,
        "indices": rows[-1],  # (B,), of training images
        "before": rows[:-1],  # of earlier batches, whose gradients are summed with this one's
        "shares": trainer.accumulate_grad_batches,  # what losses are divided by
        "random_states": dict(start.random_states),
        "state_dict": {name: value.detach().cpu() for name, value in pl_module.state_dict().items()},
        "provenance": data_of(trainer).provenance(),
        "last_bits": {**last_bits(pl_module.device), "nelbo": version("nelbo")},
        "environment": environment(pl_module.device, trainer.world_size),
        "failure": asdict(failed),
    }
    rank = f"-rank-{trainer.global_rank}" if trainer.world_size > 1 else ""
    file = folder / FOLDER / f"step-{trainer.global_step:06d}{rank}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as stream:
        torch.save(bundle, stream)
    return file
