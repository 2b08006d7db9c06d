"""Learning-rate schedulers in a run: what they are given, and how a run goes on with one.

A schedule is a function of the optimiser's step. A run that goes on makes its scheduler anew, as the config says, and
steps it to where training stands, so a checkpoint holds nothing of it. The one exception is ReduceLROnPlateau, which
follows losses: its counters are saved.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, ReduceLROnPlateau, SequentialLR

from nelbo.config.build import Factory
from nelbo.config.trainer_checks import STEP_COUNTS, TOTALS
from nelbo.errors import ConfigError
from nelbo.training import compat

RATES = ("base_lr", "max_lr")
"""Options of torch's cyclic schedulers that replace the optimiser's learning rate."""


def make_scheduler(factory: Factory, optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """The scheduler of a config, stepped after each step of the optimiser.

    A number of steps (`STEP_COUNTS`) is a whole number, or a share of all steps such as 0.5; 1.0 is all. What is left
    out: a total (`TOTALS`) is the number of steps of training; `max_lr` is the optimiser's rate; the threshold of
    ReduceLROnPlateau is a difference and no ratio, for losses here may be negative.

    Args:
        factory: of the scheduler, with the options of the config.
        optimizer: whose rate it changes. A rate in the options is that of the first parameter group; others keep their
            proportion to it.
        total_steps: steps of training; infinite if nothing but time ends it.

    Raises:
        ConfigError: for options that the scheduler refuses, or a total that is needed and unknown.
    """
    parameters = inspect.signature(factory.target).parameters
    given = {name: value for name, value in factory.arguments.items() if value is not None}
    arguments: dict[str, Any] = {
        name: _in_steps(given[name], total_steps, f"{factory.path}.{name}") for name in STEP_COUNTS if name in given
    }
    if not {*TOTALS, "epochs"} & given.keys():
        arguments |= {name: _whole(total_steps, factory.path) for name in TOTALS if name in parameters}
    rates = [group["lr"] for group in optimizer.param_groups]
    for name in RATES:
        rate = given.get(name, rates[0] if name == "max_lr" else None)
        if name in parameters and isinstance(rate, float | int):
            arguments[name] = [rate * (other / rates[0]) for other in rates]
    if factory.target is ReduceLROnPlateau:
        arguments["threshold_mode"] = given.get("threshold_mode", "abs")
    if "schedulers" in given:
        arguments["schedulers"] = _parts(factory, optimizer, total_steps, arguments.get("milestones"))
    scheduler: LRScheduler = (
        factory(optimizer=optimizer, **arguments) if "optimizer" in parameters else factory(optimizer, **arguments)
    )
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < total_steps:
        hint = f"is less than the {total_steps} steps of training; leave it out"
        raise ConfigError("total_steps", scheduler.total_steps, hint).within(factory.path)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # ReduceLROnPlateau, alone of all, does not note it
    return scheduler


def total_steps(trainer: pl.Trainer) -> float:
    """Steps of the optimiser in the whole of training, also where a callback changes how many batches make one."""
    if known := getattr(trainer.lightning_module, "total_steps", None):
        return float(known)
    estimated = trainer.estimated_stepping_batches
    gathering = [
        callback for callback in compat.callbacks_of(trainer) if isinstance(callback, GradientAccumulationScheduler)
    ]
    if not gathering or trainer.max_epochs in (None, -1):
        return estimated
    each = (gathering[0].get_accumulate_grad_batches(epoch) for epoch in range(trainer.max_epochs or 0))
    steps = sum(math.ceil(trainer.num_training_batches / batches) for batches in each)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def go_on(trainer: pl.Trainer, factory: Factory, groups: Sequence[Mapping[str, Any]], saved: Mapping[str, Any]) -> None:
    """Give the optimiser the options of the config, and its scheduler the step of the run.

    A checkpoint brings options, rates and schedules that it was written with: a run may go on with others.

    Args:
        trainer: after it has loaded a checkpoint.
        factory: of the scheduler.
        groups: the optimiser's parameter groups, as they are given to its constructor.
        saved: what `state` returned when the checkpoint was written; empty in one from before that.
    """
    (optimizer,), (config,) = trainer.optimizers, compat.scheduler_entries(trainer)
    reached = []
    for group, own in zip(optimizer.param_groups, groups, strict=True):
        options = {**optimizer.defaults, **{name: value for name, value in own.items() if name != "params"}}
        began, rate = group.pop("initial_lr"), options["lr"]
        reached.append(group["lr"] if rate == began else group["lr"] * (rate / began))
        group.update(options)
    config.scheduler = scheduler = make_scheduler(factory, optimizer, total_steps(trainer))
    if isinstance(scheduler, ReduceLROnPlateau):
        if plateau := saved.get("plateau"):  # else another scheduler wrote the checkpoint
            compat.set_plateau_state(scheduler, plateau)
            for group, rate in zip(optimizer.param_groups, reached, strict=True):
                group["lr"] = rate
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimiser before each
        for _ in range(trainer.global_step):
            scheduler.step()


def is_of_another(optimizer: Optimizer, saved: Mapping[str, Any]) -> bool:
    """Whether an optimiser of another class wrote what `state` returned."""
    name = type(optimizer).__name__
    return bool(saved.get("optimizer", name) != name)


def state(trainer: pl.Trainer) -> dict[str, Any]:
    """What a checkpoint must hold for `go_on`, in plain containers."""
    (optimizer,), (config,) = trainer.optimizers, compat.scheduler_entries(trainer)
    plateau = compat.plateau_state(config.scheduler) if isinstance(config.scheduler, ReduceLROnPlateau) else None
    return {"optimizer": type(optimizer).__name__, "plateau": plateau}


def follow(trainer: pl.Trainer, loss: float) -> None:
    """Show ReduceLROnPlateau the loss of a validation."""
    for config in compat.scheduler_entries(trainer):
        if isinstance(config.scheduler, ReduceLROnPlateau):
            config.scheduler.step(loss)


def _parts(factory: Factory, optimizer: Optimizer, total: float, milestones: Sequence[int] | None) -> list[LRScheduler]:
    """The schedulers that a scheduler is put together from; each part of a sequence has its own number of steps."""
    parts: list[Factory] = factory.arguments["schedulers"]
    spans = [total] * len(parts)
    if factory.target is SequentialLR and milestones is not None:
        edges = [0, *milestones, total]
        spans = [max(1, end - start) for start, end in zip(edges, edges[1:], strict=False)]
        spans += [total] * (len(parts) - len(spans))  # a wrong number of milestones, which torch refuses
    return [make_scheduler(part, optimizer, span) for part, span in zip(parts, spans, strict=False)]


def _in_steps(value: Any, total: float, path: str) -> Any:
    """A number of steps, or several, of which a share stands for that share of all."""
    if isinstance(value, list):
        return [_in_steps(item, total, path) for item in value]
    return max(1, round(value * _whole(total, path))) if isinstance(value, float) else value


def _whole(total: float, path: str) -> int:
    """All steps.

    Raises:
        ConfigError: if there is no end to them.
    """
    if math.isinf(total):
        raise ConfigError(path, "", "needs the number of steps: give trainer.max_epochs or max_steps", located=True)
    return int(total)
