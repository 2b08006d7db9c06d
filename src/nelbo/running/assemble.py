"""The parts of a run, made from its config: data, model, objective, module and trainer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from nelbo.checkpoints.environment import environment
from nelbo.checkpoints.record import VALUE_RANGE
from nelbo.config.build import build
from nelbo.config.checks import allowed_targets
from nelbo.data.run_data import RunData
from nelbo.directories.names import CHECKPOINTS
from nelbo.errors import ConfigError
from nelbo.models import Model
from nelbo.numerics.threads import busy_message, cores, load_beside_this_process
from nelbo.objectives import Objective
from nelbo.running.build_data import build_data
from nelbo.running.conditions import check_kinds, check_labelled, infers, kinds_of, refuse_masks
from nelbo.running.floats import refuse_levels
from nelbo.running.resume import epochs_added, refuse_shorter
from nelbo.running.resume_point import ResumePoint
from nelbo.running.settings import Chosen, resolve, resolve_with
from nelbo.training import VAEModule
from nelbo.training.batches import given_context
from nelbo.training.callbacks import (
    Checkpoints,
    Dashboard,
    EpochLines,
    Guard,
    History,
    Pruning,
    RandomStates,
    Throughput,
)
from nelbo.training.devices import check_devices
from nelbo.training.length import Length, set_length, training_length
from nelbo.training.optimizers import build_optimizer
from nelbo.training.probe import probe
from nelbo.training.signals import Signals
from nelbo.training.trainer import make_trainer
from nelbo.training.weights import refuse_other_tensors, start_from

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a run is made of.

    Args:
        plain: the config, with what the images and the budget say filled in.
        identifying: the config that the run's identity is of: as it was composed, with the content of `init_from`.
        data: set up.
        module: the model and its objective.
        trainer: with loggers and callbacks.
        length: how long training is.
        checkpoints: the callback that writes them.
        guard: the callback that counts skipped and clipped updates.
        throughput: the callback that measures time.
        record: what every checkpoint holds beside its tensors.
        validated: whether there is a validation set.
    """

    plain: Mapping[str, Any]
    identifying: Mapping[str, Any]
    data: RunData
    module: VAEModule
    trainer: pl.Trainer
    length: Length
    checkpoints: Checkpoints
    guard: Guard
    throughput: Throughput
    record: Mapping[str, Any]
    validated: bool


def assemble(
    config: DictConfig, folder: Path, resume_point: ResumePoint | None, signals: Signals, chosen: Chosen
) -> Parts:
    """Make the parts of a run, in an order that matters: each may draw random numbers from the run's seed.

    Args:
        config: the composed config.
        folder: the run's directory.
        resume_point: the checkpoint from which the run resumes; None for a run that starts.
        signals: those that stop the run.
        chosen: what the command line says.

    Raises:
        NelboError: for whatever the user can put right.
    """
    composed = resolve(config)
    allowed = allowed_targets(composed)
    check_devices(composed["trainer"])
    set_threads(composed["threads"])
    pl.seed_everything(composed["seed"], workers=True, verbose=False)

    data = build_data(composed["data"], allowed)
    objective: Objective = build(composed["objective"], "objective", allowed)
    set_up(data, resume_point)
    from_images = values_of_images(composed, data)
    plain = resolve_with(config, from_images) if from_images else composed
    module = make_module(plain, data, objective, allowed, chosen)
    init_from = load_weights(module, plain, resume_point)
    module.record |= {"init_from": init_from} if init_from else {}

    validated = bool(len(data.splits["val"]) and plain["trainer"]["limit_val_batches"])
    checkpoints = Checkpoints(
        folder / CHECKPOINTS,
        signals,
        every_n_epochs=plain["trainer"]["check_val_every_n_epoch"] or 1,
        validated=validated,
        position=resume_point.position if resume_point else (0, 0),
        best_is_lost=resume_point is not None and not resume_point.best,
    )
    throughput, dashboard = Throughput(), Dashboard(chosen.hyperparameters(plain), chosen.run_name(folder))
    guard = build(plain["guard"], "guard", allowed)(folder, plain)
    callbacks: list[pl.Callback] = [
        throughput,
        History(folder),
        EpochLines(throughput),
        dashboard,
        RandomStates(),
        guard,
        checkpoints,
    ]
    if plain["trial"] is not None:
        callbacks.append(Pruning(**build(plain["trial"], "trial", allowed)))
    trainer = make_trainer(plain, folder, module, callbacks, allowed, validated=validated)
    length = set_training_length(plain, data, module, trainer, checkpoints)
    record_resuming(module.record, resume_point, folder, length, trainer)
    dashboard.hyperparameters["trainer.max_epochs"] = length.epochs
    if length.by_budget:  # as many epochs as the budget needs with these data
        plain = resolve_with(config, {**from_images, "trainer.max_epochs": length.epochs})
    identifying, record = {**composed, "init_from": init_from}, module.record
    return Parts(plain, identifying, data, module, trainer, length, checkpoints, guard, throughput, record, validated)


def set_threads(threads: int | None) -> None:
    """Set the CPU threads of this process, and log where other programs use the cores that they would need.

    Args:
        threads: the number; None leaves what torch or the launcher chose.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    elif message := busy_message(torch.get_num_threads(), cores(), load_beside_this_process()):
        log.warning(message)


def set_up(data: RunData, resume_point: ResumePoint | None) -> None:
    """Load the data of a run, and let them start where it resumes.

    Raises:
        ConfigError: if they cannot be loaded, or the run was trained on other data.
    """
    try:
        data.setup()
    except ConfigError as error:
        raise error.within("data") from error.__cause__
    for note in data.notes():
        log.info("%s: %s", data.name, note)
    if resume_point is None:
        return
    if resume_point.provenance != data.provenance():
        hint = f"is not what {resume_point.file} was trained on; train a new run, in another directory"
        raise ConfigError("data", data.name, hint)
    data.position = resume_point.position


def values_of_images(plain: Mapping[str, Any], data: RunData) -> dict[str, Any]:
    """Return the values of keys that the config leaves to the data.

    These are `data.shape` and `data.levels` of one's own images, `kinds` of what a model is conditioned on, and the
    columns of a table.
    """
    values: dict[str, Any] = {"shape": list(data.shape or ()), "levels": data.levels}
    filled: dict[str, Any] = {
        f"data.{key}": value for key, value in values.items() if plain["data"].get(key, "") is None
    }
    conditioning, inferred = plain["model"].get("conditioning"), infers(plain["model"])
    check_labelled(plain["data"], conditioning, inferred=inferred)
    if conditioning and conditioning.get("kinds", "") is None:
        filled["model.conditioning.kinds"] = kinds_of(conditioning["names"], data, inferred=inferred)
    elif conditioning:
        check_kinds(conditioning["kinds"], conditioning["names"], data, inferred=inferred)
    for part in ("likelihood", "inputs") if data.table else ():
        if (plain["model"].get(part) or {}).get("columns", "") is None:
            filled[f"model.{part}.columns"] = data.table["columns"]
    return filled


def make_module(
    plain: Mapping[str, Any], data: RunData, objective: Objective, allowed: tuple[str, ...], chosen: Chosen
) -> VAEModule:
    """Return the LightningModule of a run: its model, started on images of the data, and its objective.

    Raises:
        ConfigError: if the model cannot be built, or does not fit the data or the objective.
    """
    refuse_levels(plain, data, chosen.options.get("likelihood", "discretized_logistic"))
    model: Model = build(plain["model"], "model", allowed)
    start = data.starting_batch()
    refuse_masks(model, data, start)
    model.value_range = data.value_range(start)
    likelihood = chosen.options.get("likelihood", type(model.likelihood).__name__)
    example = probe(model, objective, start, data, likelihood)
    model.initialize(start.x, given_context(model, start))
    objective.prepare(len(data.splits["train"]))
    record: dict[str, Any] = {
        "model": plain["model"],
        "data": plain["data"],
        "seed": plain["seed"],
        "provenance": data.provenance(),
        "resumed": [],
    }
    if data.table:
        record["table"] = dict(data.table)
    if model.value_range is not None:
        record[VALUE_RANGE] = list(model.value_range)
    optimizer = build_optimizer(plain, list(chosen.overrides), allowed)
    scheduler = build(plain["scheduler"], "scheduler", allowed)
    return VAEModule(
        model,
        objective,
        optimizer,
        scheduler,
        example,
        data.dequantized_levels,
        record,
        averaging=build(plain["averaging"], "averaging", allowed) if plain.get("averaging") else None,
        lr_warm_up=plain.get("lr_warm_up", 0),
    )


def load_weights(
    module: VAEModule, plain: Mapping[str, Any], resume_point: ResumePoint | None
) -> Mapping[str, Any] | None:
    """Start the module from the weights that `init_from` names, unless the run resumes.

    Returns:
        What the run records of these weights; None where there are none.

    Raises:
        NelboError: if the weights cannot be read, or those of the checkpoint are of another module.
    """
    if resume_point is not None:
        refuse_other_tensors(resume_point.file, resume_point.content["state_dict"], module)
        return resume_point.init_from
    return start_from(module, plain["init_from"]) if plain.get("init_from") else None


def set_training_length(
    plain: Mapping[str, Any], data: RunData, module: VAEModule, trainer: pl.Trainer, checkpoints: Checkpoints
) -> Length:
    """Tell the trainer how long it trains.

    Raises:
        ConfigError: if batches are too small for the objective, or a length cannot be used.
    """
    data.check_batches(module.objective.least_batch, trainer.world_size, validated=checkpoints.validated)
    length = training_length(plain, data, trainer)
    set_length(length, trainer, module, checkpoints)
    return length


def record_resuming(
    record: dict[str, Any], resume_point: ResumePoint | None, folder: Path, length: Length, trainer: pl.Trainer
) -> None:
    """Write into the record where the run computes, and what of that changed since the checkpoint.

    Raises:
        ConfigError: if the run is already longer than it is to be, or cannot resume on this number of processes.
    """
    record["environment"] = environment(trainer.strategy.root_device, trainer.world_size)
    if resume_point is None:
        return
    refuse_shorter(resume_point, folder, length.epochs, length.max_steps)
    record["resumed"] = resume_point.history(record["environment"])
    if length.by_budget:
        record["resumed"] += epochs_added(resume_point, folder, length.epochs)
