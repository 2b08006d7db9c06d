"""One run: check, build, fit, test, report. The only reader of a DictConfig."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from nelbo.checkpoints.environment import environment
from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.build import build
from nelbo.config.checks import allowed_targets, check
from nelbo.config.identity import identity
from nelbo.config.keys import TYPED_KEYS, select
from nelbo.data.module import ImageData
from nelbo.directories import names
from nelbo.errors import ConfigError, Diverged, NelboError, Stopped, first_line
from nelbo.files import write_json
from nelbo.metrics.collapse import collapse_warning
from nelbo.models import VAE
from nelbo.numerics.precision import float32
from nelbo.objectives import Objective
from nelbo.running import directory, first_command, resume
from nelbo.running.summary import headline, print_report
from nelbo.training import VAEModule
from nelbo.training.callbacks import (
    Checkpoints,
    Dashboard,
    EpochLines,
    History,
    Pruning,
    RandomStates,
    Throughput,
)
from nelbo.training.devices import check_devices
from nelbo.training.foreign import named_errors
from nelbo.training.length import set_length, training_length
from nelbo.training.loggers import log_names
from nelbo.training.optimizers import build_optimizer
from nelbo.training.outcome import outcome
from nelbo.training.probe import probe
from nelbo.training.signals import Signals, requeue
from nelbo.training.trainer import checkpoint_bytes, make_trainer
from nelbo.training.weights import refuse_other_tensors, start_from, told_in_metrics

log = logging.getLogger(__name__)

CHOSEN = {"model": "model", "data": "data", "likelihood": "model.likelihood"}


def run(config: DictConfig) -> float:
    """Train and test what `config` says, in Hydra's run directory; or go on with what stands there.

    Returns:
        `val/nelbo` of the best checkpoint, or `test/nelbo` without a validation set; the reconstruction of a model that
        has no ELBO.

    Raises:
        NelboError: for anything that the user can put right.
        Stopped: when a signal asks, once a checkpoint is written.
    """
    plain = resolve(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    # A cell's directory is that of its config, and a job that Slurm starts again goes on.
    cell = HydraConfig.get().mode == RunMode.MULTIRUN
    asked = plain["resume"] or (names.AUTO if cell or directory.is_requeued() else None)
    # Of several processes one writes.
    owner = rank_zero_only.rank == 0  # type: ignore[attr-defined] # set when it is imported
    if not owner:
        logging.getLogger("nelbo").setLevel(logging.ERROR)  # what there is to say, the owner says
    home = Path(HydraConfig.get().runtime.cwd)
    if asked not in (None, names.AUTO) and (home / asked).resolve() != folder.resolve():
        raise ConfigError("resume", plain["resume"], f"is not hydra.run.dir={folder}: leave that out")
    if asked not in (None, names.AUTO):
        first_command.restore(config, plain, folder)
        plain = resolve(config)
    lock = directory.locked(folder) if owner else contextlib.nullcontext()
    with lock, Signals() as signals, float32(plain["float32"]):
        ended = directory.finished(folder, plain)
        if ended and asked:
            log.info("this run has ended already; a larger trainer.max_epochs or max_steps goes on with it")
            print_report(ended, folder)
            return headline(ended)
        found = resume.find(folder, plain, asked, first_command.first_config)
        try:
            metrics = fit_and_test(config, plain, folder, found, signals, owner=owner)
        except Stopped as stopped:
            if owner:
                told = "the sweep's command goes on with it" if cell else resume.how_to_go_on(folder)
                log.warning("stopped by %s; %s", signal.Signals(stopped.signum).name, told)
                if stopped.signum == signal.SIGUSR1 and (job := directory.slurm_job()):
                    requeue(job)
            raise
        if owner:
            write_json(folder / names.METRICS, metrics)  # last: it says that the run has ended
            print_report(metrics, folder)
    return headline(metrics)


def fit_and_test(
    config: DictConfig,
    plain: dict[str, Any],
    folder: Path,
    found: resume.Found | None,
    signals: Signals,
    *,
    owner: bool,
) -> dict[str, Any]:
    """Build what `plain` says, train it, from where `found` left it if that is one, and test its best checkpoint.

    Returns:
        What goes into metrics.json.
    """
    allowed = allowed_targets(plain)
    check_devices(plain["trainer"])
    if plain["threads"] is not None:
        torch.set_num_threads(plain["threads"])
    pl.seed_everything(plain["seed"], workers=True, verbose=False)

    data: ImageData = build(plain["data"], "data", allowed)
    objective: Objective = build(plain["objective"], "objective", allowed)
    try:
        data.setup()
    except ConfigError as error:
        raise error.within("data") from error.__cause__
    if found:
        if found.provenance != data.provenance():
            hint = f"is not what {found.file} was trained on; train anew, in another directory"
            raise ConfigError("data", data.name, hint)
        data.position = found.position
    began = plain
    said = {"shape": list(data.shape or ()), "levels": data.levels}
    if unsaid := [key for key in said if plain["data"].get(key, "") is None]:  # a file's images say what they are
        for key in unsaid:
            OmegaConf.update(config, f"data.{key}", said[key])
        plain = resolve(config)
    model: VAE = build(plain["model"], "model", allowed)
    images = data.starting_images()
    chosen = HydraConfig.get().runtime.choices.get("likelihood", type(model.likelihood).__name__)
    example = probe(model, objective, images, data, chosen)
    model.initialize(images)
    objective.prepare(len(data.splits["train"]))

    record: dict[str, Any] = {
        "model": plain["model"],
        "data": plain["data"],
        "seed": plain["seed"],
        "provenance": data.provenance(),
        "resumed": [],
    }
    overrides = list(HydraConfig.get().overrides.task)
    optimizer = build_optimizer(plain, overrides, allowed)
    scheduler = build(plain["scheduler"], "scheduler", allowed)
    module = VAEModule(model, objective, optimizer, scheduler, example, data.dequantized_levels, record)
    if found:
        refuse_other_tensors(found.file, module)
        origin = found.init_from
    else:
        origin = start_from(module, plain["init_from"]) if plain.get("init_from") else None
    record |= {"init_from": origin} if origin else {}
    known = {**began, "init_from": origin}  # its contents, wherever they lie
    hyperparameters = {key: select(plain, key) for key in (*TYPED_KEYS, "data.protocol")} | choices(plain, overrides)
    validated = bool(len(data.splits["val"]) and plain["trainer"]["limit_val_batches"])
    checkpoints = Checkpoints(
        folder / names.CHECKPOINTS,
        signals,
        every_n_epochs=plain["trainer"]["check_val_every_n_epoch"] or 1,
        validated=validated,
        position=found.position if found else (0, 0),
        best_is_lost=found is not None and not found.best,
    )
    throughput, dashboard = Throughput(), Dashboard(hyperparameters)
    watchers: list[pl.Callback] = [
        throughput,
        History(folder),
        EpochLines(throughput),
        dashboard,
        RandomStates(),
        build(plain["guard"], "guard", allowed)(folder, plain),
        checkpoints,
    ]
    if plain["trial"] is not None:
        watchers.append(Pruning(**build(plain["trial"], "trial", allowed)))
    trainer = make_trainer(plain, folder, module, watchers, allowed, validated=validated)
    data.check_batches(objective.least_batch, trainer.world_size, validated=validated)
    record["environment"] = environment(trainer.strategy.root_device, trainer.world_size)
    length = training_length(plain, data, trainer)
    set_length(length, trainer, module, checkpoints)
    if found:
        resume.refuse_less(found, folder, length.epochs, length.max_steps)
        record["resumed"] = found.going_on(record["environment"])
    dashboard.hyperparameters["trainer.max_epochs"] = length.epochs
    if length.by_budget:  # as many epochs as it comes to with these data
        record["resumed"] += resume.longer(found, folder, length.epochs) if found else []
        OmegaConf.update(config, "trainer.max_epochs", length.epochs)
        plain = resolve(config)
    if owner:
        texts = {
            names.CONFIG: OmegaConf.to_yaml(OmegaConf.create(plain)),
            names.OVERRIDES: OmegaConf.to_yaml(OmegaConf.create(first_command.began_with(overrides))),
            names.MARK: directory.mark(known),
        }
        written = log_names(trainer.loggers, folder, validated=validated)
        directory.begin(folder, found.logs if found else {}, checkpoint_bytes(module), texts, *written)
        log.info("training in %s", folder)
    if isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
        # Ranks that wait for one that is not there yet, or not any more.
        signals.before_exit = functools.partial(launcher.kill, signal.SIGTERM)
    try:
        with named_errors(plain["callbacks"]):
            trainer.fit(module, datamodule=data, ckpt_path=found.file if found else None)
        # Read before testing: that restores the callbacks to where the best checkpoint was written.
        tested_at = resume.found_in(checkpoints.best, read_checkpoint(checkpoints.best))
        ended = outcome(trainer, checkpoints.ending, length, tested_at.position, tested_at.step)
        seconds, cpu_seconds, rate = throughput.seconds, throughput.cpu_seconds, throughput.rate
        best = checkpoints.values
        with named_errors(plain["callbacks"]):
            (tested,) = trainer.test(module, datamodule=data, ckpt_path=checkpoints.best, verbose=False)
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise NelboError(f"trainer.val_check_interval: {first_line(error)}") from error
    except Stopped:
        signals.before_exit()
        raise
    except RuntimeError as error:
        if signals.received:  # what broke is what others of its processes left when they stopped
            raise Stopped(signals.received) from error
        lost = isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)
        if trainer.world_size == 1 or not lost:
            raise
        how = resume.as_argument(folder)
        raise NelboError(f"a process of this run is gone, and the others with it; {how} goes on") from error

    metrics: dict[str, Any] = {
        **best,
        **{key: float(value) for key, value in tested.items()},
        **data.provenance(),
        "identity": identity(known),
        "seed": plain["seed"],
        "threads": torch.get_num_threads(),
        **ended,
        "train_seconds": seconds,
        "train_cpu_seconds": cpu_seconds,
        "images_per_second": rate,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "environment": record["environment"],
    }
    if record["resumed"]:
        metrics["resumed"] = record["resumed"]
    if origin:
        metrics["init_from"] = told_in_metrics(origin)
    if "test/bits_per_dim" in metrics:  # both count bits of stored pixels, but the second bounds them once more
        metrics["bits_per_dim_by"] = "uniform dequantisation" if data.dequantized_levels else "probabilities"
    diverged = [key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
    if diverged:
        raise Diverged(f"training diverged: {diverged[0]} is {metrics[diverged[0]]}; lower optimizer.lr")
    if line := collapse_warning(metrics, plain):
        log.warning(line)
    return metrics


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, checked.

    Raises:
        ConfigError: for a missing value, a bad interpolation, or a value that is no use.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    check(plain)
    return plain


def choices(plain: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The model and data that were chosen and everything else overridden, for TensorBoard's hparams tab."""
    options = HydraConfig.get().runtime.choices  # without a group that was left out: ~likelihood
    chosen = {group: options.get(group) or select(plain, f"{place}._target_") for group, place in CHOSEN.items()}
    typed = {override.lstrip("+~").split("=")[0]: override.partition("=")[2] for override in overrides}
    return {key: value for key, value in typed.items() if key not in TYPED_KEYS} | chosen
