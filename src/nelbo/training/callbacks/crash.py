"""The crash bundle of a diverged run: one file from which its last step can be repeated, bit for bit.

Shapes: B batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from nelbo import __version__
from nelbo.checkpoints.environment import environment
from nelbo.data.loader import Batches
from nelbo.directories.names import CRASHES
from nelbo.files import atomic
from nelbo.training.callbacks.random_states import last_bits
from nelbo.training.callbacks.writer import data_of

CRASH = "nelbo_crash"
"""The key of a bundle's format number."""

FORMAT = 2
"""Format of new bundles. Format 1 lacks `before` and `shares`; its random states are of the CPU and one CUDA device."""

FORMATS = (1, FORMAT)
"""Formats that can be replayed."""

FOLDER = CRASHES
"""The subdirectory of a run's directory for bundles."""


@dataclass(frozen=True)
class Failure:
    """The values of a step, some of which may not be finite.

    Args:
        loss: the objective, in nats.
        terms: the terms of the objective, by name.
        gradients: names of the parameters whose gradient norm is not finite; empty if the loss or a term is not finite.

    Example:
        >>> str(Failure(math.inf, {"reconstruction": math.inf, "kl": 2.0}, []))
        'reconstruction is inf'
    """

    loss: float
    terms: Mapping[str, float]
    gradients: list[str]

    @property
    def is_of_loss(self) -> bool:
        """Whether a value of the forward pass is not finite."""
        return not all(map(math.isfinite, (self.loss, *self.terms.values())))

    @property
    def is_of_own_terms(self) -> bool:
        """Whether the reconstruction or the KL is not finite: terms that depend on this process's images only."""
        return not all(math.isfinite(self.terms.get(name, 0.0)) for name in ("reconstruction", "kl"))

    @property
    def not_finite(self) -> dict[str, float | None]:
        """The values that are not finite, by name; None for gradients."""
        values = {name: value for name, value in (*self.terms.items(), ("the loss", self.loss))}
        bad: dict[str, float | None] = {name: value for name, value in values.items() if not math.isfinite(value)}
        return bad | {f"the gradient norm of {name}": None for name in self.gradients}

    def __str__(self) -> str:
        bad = self.not_finite
        for sum_of_others in ("the loss", "nelbo"):  # a sum is never the cause
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
    """The state before the forward pass of a batch, which the forward pass may change.

    Args:
        batch: the number of the batch in its epoch, from 0.
        random_states: torch's random states of the CPU and of the run's device.
        buffers: values of the module's persistent buffers.
    """

    batch: int
    random_states: Mapping[str, Any]
    buffers: list[Tensor]


def failure(loss: Tensor, terms: Mapping[str, Tensor | float], module: nn.Module) -> Failure:
    """Return the values of a step after its backward pass, with the parameters whose gradients are not finite.

    Args:
        loss: the objective, a scalar in nats.
        terms: the terms of the objective, by name.
        module: the module whose gradients are examined.
    """
    values = Failure(loss.item(), {name: float(value) for name, value in terms.items()}, [])
    if values.is_of_loss:
        return values
    gradients = {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    # A finite gradient may be too large to be squared, as optimisers do.
    return Failure(values.loss, values.terms, bad or [k for k, v in gradients.items() if not v.norm().isfinite()])


def has_positions(trainer: pl.Trainer) -> bool:
    """Return whether the training batches are known by the positions of their examples."""
    return isinstance(getattr(trainer.train_dataloader, "batch_sampler", None), Batches)


def write_bundle(
    folder: Path,
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    step: int,
    start: Start,
    batch: int,
    failed: Failure,
    config: Mapping[str, Any],
) -> Path:
    """Write `crash/step-000123.pt` into a run's directory, and return its path.

    It has plain containers and tensors, without the optimiser's state. Step, epoch and batch count from 0.

    Args:
        folder: the run's directory.
        trainer: the Trainer of the run.
        pl_module: the module, with the buffers of `start`.
        step: the number of the step.
        start: the state before the first batch of the update.
        batch: the number of the batch that failed, the first or a later one of the update.
        failed: the values of the step.
        config: the config of the run.

    Raises:
        OSError: if the file cannot be written.
        RuntimeError: from torch, for the same reason.
    """
    assert trainer.train_dataloader is not None
    batches = trainer.train_dataloader.batch_sampler
    assert isinstance(batches, Batches)
    # Clones, because saving a view saves the whole tensor behind it.
    rows = [indices.clone() for indices in batches.batches()[start.batch : batch + 1]]
    bundle = {
        CRASH: FORMAT,
        "config": {**config, "trainer": {**config.get("trainer", {}), "precision": trainer.precision}},  # never auto
        "epoch": trainer.current_epoch,
        "step": step,
        "batch": batch,
        "rank": trainer.global_rank,
        "indices": rows[-1],  # (B,), training images of this batch
        "before": rows[:-1],  # the same of earlier batches of the update, whose gradients are added to this one's
        "shares": trainer.accumulate_grad_batches,  # number of batches that each loss is divided by
        "random_states": dict(start.random_states),
        "state_dict": {name: value.detach().cpu() for name, value in pl_module.state_dict().items()},
        "provenance": data_of(trainer).provenance(),
        "last_bits": {**last_bits(pl_module.device), "nelbo": __version__},
        "environment": environment(pl_module.device, trainer.world_size),
        "failure": asdict(failed),
    }
    rank = f"-rank-{trainer.global_rank}" if trainer.world_size > 1 else ""
    file = folder / FOLDER / f"step-{step:06d}{rank}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as stream:
        torch.save(bundle, stream)
    return file
