"""Learning-rate schedulers of a run: their construction, and their state when the run is resumed.

A schedule is a function of the optimiser step. A resumed run constructs its scheduler from the config again and steps
it to the current step, so a checkpoint needs no state of it. The exception is ReduceLROnPlateau, which follows losses:
its counters are saved.
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
from nelbo.training.warm_up import WarmUp, plateau_of

RATES = ("base_lr", "max_lr")
"""Options of torch's cyclic schedulers that replace the optimiser's learning rate."""


def make_scheduler(factory: Factory, optimizer: Optimizer, total_steps: float, warm_up: int | float = 0) -> LRScheduler:
    """Return the scheduler of a config, to be stepped after each optimiser step, with a linear rise of the rate first.

    Args:
        factory: constructs the scheduler, as `scheduler_alone` takes it.
        optimizer: the optimiser whose rate is scheduled.
        total_steps: optimiser steps of training; infinite if only time ends it.
        warm_up: the steps of the rise, or a share of all steps; the scheduler is one over the remaining steps.

    Raises:
        ConfigError: as `scheduler_alone` does, and if no step remains.
    """
    rise = _in_steps(warm_up, total_steps, "lr_warm_up") if warm_up else 0
    if rise and isinstance(warm_up, float):
        rise = min(rise, int(total_steps) - 1)  # a trial of a single step has no rise
    if rise >= total_steps:
        raise ConfigError("lr_warm_up", warm_up, f"leaves none of the {total_steps:.0f} steps of training")
    scheduler = scheduler_alone(factory, optimizer, total_steps - rise)
    return WarmUp(scheduler, rise) if rise else scheduler


def scheduler_alone(factory: Factory, optimizer: Optimizer, total_steps: float) -> LRScheduler:
    """Return the scheduler of a config without a rise of the rate before it.

    A number of steps (`STEP_COUNTS`) is an integer, or a share of all steps as a float: 0.5 is half of them, 1.0 all.
    Defaults of options that are not given: the number of training steps for a total (`TOTALS`), the optimiser's rate
    for `max_lr`, and an absolute threshold for ReduceLROnPlateau, because losses may be negative.

    Args:
        factory: constructs the scheduler, with the options of the config.
        optimizer: the optimiser whose rate is scheduled. A rate in the options is that of the first parameter group;
            other groups keep their ratio to it.
        total_steps: optimiser steps of training; infinite if only time ends it.

    Raises:
        ConfigError: for options that the scheduler rejects, or if a total is needed and unknown.
    """
    parameters = inspect.signature(factory.target).parameters
    given = {name: value for name, value in factory.arguments.items() if value is not None}
    arguments: dict[str, Any] = {
        name: _in_steps(given[name], total_steps, f"{factory.path}.{name}") for name in STEP_COUNTS if name in given
    }
    if not {*TOTALS, "epochs"} & given.keys():
        arguments |= {name: _finite(total_steps, factory.path) for name in TOTALS if name in parameters}
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
        hint = f"is less than the {total_steps} steps of training; omit it"
        raise ConfigError("total_steps", scheduler.total_steps, hint).within(factory.path)
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # every scheduler of torch but ReduceLROnPlateau sets it
    return scheduler


def total_steps(trainer: pl.Trainer) -> float:
    """Return the optimiser steps of all of training, also if a callback changes the number of batches per step."""
    if known := getattr(trainer.lightning_module, "total_steps", None):
        return float(known)
    estimated = trainer.estimated_stepping_batches
    accumulating = [
        callback for callback in compat.callbacks_of(trainer) if isinstance(callback, GradientAccumulationScheduler)
    ]
    if not accumulating or trainer.max_epochs in (None, -1):
        return estimated
    factors = (accumulating[0].get_accumulate_grad_batches(epoch) for epoch in range(trainer.max_epochs or 0))
    steps = sum(math.ceil(trainer.num_training_batches / factor) for factor in factors)
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def resume(
    trainer: pl.Trainer,
    factory: Factory,
    groups: Sequence[Mapping[str, Any]],
    saved: Mapping[str, Any],
    warm_up: int | float = 0,
) -> None:
    """Give the optimiser the options of the config, and construct its scheduler for the current step.

    A checkpoint restores the options, rates and schedules that it was written with; a resumed run may have others.

    Args:
        trainer: a Trainer that has loaded a checkpoint.
        factory: constructs the scheduler.
        groups: the optimiser's parameter groups, as its constructor takes them.
        saved: the result of `state` when the checkpoint was written; empty if the checkpoint is older than `state`.
        warm_up: as in `make_scheduler`.
    """
    (optimizer,), (entry,) = trainer.optimizers, compat.scheduler_entries(trainer)
    reached = []
    for group, own in zip(optimizer.param_groups, groups, strict=True):
        options = {**optimizer.defaults, **{name: value for name, value in own.items() if name != "params"}}
        initial, rate = group.pop("initial_lr"), options["lr"]
        reached.append(group["lr"] if rate == initial else group["lr"] * (rate / initial))
        group.update(options)
    entry.scheduler = scheduler = make_scheduler(factory, optimizer, total_steps(trainer), warm_up)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch expects a step of the optimiser before each step of a scheduler
        for _ in range(0 if isinstance(scheduler, ReduceLROnPlateau) else trainer.global_step):
            scheduler.step()
    plateau, counters = plateau_of(scheduler), saved.get("plateau")  # None if another scheduler wrote the checkpoint
    if plateau is not None and counters:
        compat.set_plateau_state(plateau, counters)
        for group, rate in zip(optimizer.param_groups, reached, strict=True):
            group["lr"] = rate


def is_of_other_class(optimizer: Optimizer, saved: Mapping[str, Any]) -> bool:
    """Return whether `state` was saved with an optimiser of another class."""
    name = type(optimizer).__name__
    return bool(saved.get("optimizer", name) != name)


def state(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what a checkpoint must hold for `resume`, in plain containers."""
    (optimizer,), (entry,) = trainer.optimizers, compat.scheduler_entries(trainer)
    plateau = plateau_of(entry.scheduler)
    counters = None if plateau is None else compat.plateau_state(plateau)
    return {"optimizer": type(optimizer).__name__, "plateau": counters}


def step_plateau(trainer: pl.Trainer, loss: float) -> None:
    """Step a ReduceLROnPlateau with the loss of a validation; other schedulers are left alone."""
    for entry in compat.scheduler_entries(trainer):
        if (plateau := plateau_of(entry.scheduler)) is not None:
            plateau.step(loss)


def _parts(factory: Factory, optimizer: Optimizer, total: float, milestones: Sequence[int] | None) -> list[LRScheduler]:
    """Return the schedulers that a composite scheduler consists of; each part of a sequence has its own total."""
    parts: list[Factory] = factory.arguments["schedulers"]
    spans = [total] * len(parts)
    if factory.target is SequentialLR and milestones is not None:
        edges = [0, *milestones, total]
        spans = [max(1, end - start) for start, end in zip(edges, edges[1:], strict=False)]
        spans += [total] * (len(parts) - len(spans))  # a wrong number of milestones, which torch rejects
    return [scheduler_alone(part, optimizer, span) for part, span in zip(parts, spans, strict=False)]


def _in_steps(value: Any, total: float, path: str) -> Any:
    """Return a number of steps, or a list of them, with shares of the total converted to steps."""
    if isinstance(value, list):
        return [_in_steps(item, total, path) for item in value]
    return max(1, round(value * _finite(total, path))) if isinstance(value, float) else value


def _finite(total: float, path: str) -> int:
    """Return the total number of steps.

    Raises:
        ConfigError: if it is infinite.
    """
    if math.isinf(total):
        raise ConfigError(path, "", "needs the number of steps; set trainer.max_epochs or max_steps", located=True)
    return int(total)
