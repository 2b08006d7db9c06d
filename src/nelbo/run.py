"""One run: check, build, fit, test, report. The only reader of a DictConfig."""

from __future__ import annotations

import contextlib
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
from torch import Tensor

from nelbo import directory, resume
from nelbo.build import build
from nelbo.checks import allowed_targets, check, select
from nelbo.cli import TYPED_KEYS
from nelbo.data.module import ImageData
from nelbo.errors import (
    CheckpointError,
    ConfigError,
    Diverged,
    NelboError,
    Stopped,
    first_line,
)
from nelbo.files import write_json
from nelbo.identity import identity
from nelbo.loading import read_checkpoint
from nelbo.models import VAE
from nelbo.objectives import Objective
from nelbo.report import headline, print_report
from nelbo.trace import Trace
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
from nelbo.training.signals import Signals, requeue
from nelbo.training.trainer import checkpoint_bytes, make_trainer, validation_interval

log = logging.getLogger(__name__)

PROBE = 2
CHOSEN = {"model": "model", "data": "data", "likelihood": "model.likelihood"}


def run(config: DictConfig) -> float:
    """Train and test what `config` says, in Hydra's run directory; or go on with what stands there.

    Returns:
        `val/nelbo` of the best checkpoint, or `test/nelbo` without a validation set; the reconstruction of a model that
        has no ELBO.

    Raises:
        NelboError: for anything that the user can mend.
        Stopped: when a signal asks, once a checkpoint is written.
    """
    plain = resolve(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    # A cell's directory is that of its config, and a job that Slurm starts again goes on.
    cell = HydraConfig.get().mode == RunMode.MULTIRUN
    asked = plain["resume"] or (directory.AUTO if cell or directory.is_requeued() else None)
    # Of several processes one writes.
    owner = rank_zero_only.rank == 0  # type: ignore[attr-defined] # set when it is imported
    if not owner:
        logging.getLogger("nelbo").setLevel(logging.ERROR)  # what there is to say, the owner says
    home = Path(HydraConfig.get().runtime.cwd)
    if asked not in (None, directory.AUTO) and (home / asked).resolve() != folder.resolve():
        raise ConfigError("resume", plain["resume"], f"is not hydra.run.dir={folder}: leave that out")
    with directory.locked(folder) if owner else contextlib.nullcontext(), Signals() as signals:
        ended = directory.finished(folder, plain)
        if ended and asked:
            log.info("this run has ended already; a larger trainer.max_epochs goes on with it")
            print_report(ended, folder)
            return headline(ended)
        found = resume.find(folder, plain, asked)
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
            write_json(folder / directory.METRICS, metrics)  # last: it says that the run has ended
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
    same, mark, allowed = identity(plain), directory.mark(plain), allowed_targets(plain)
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
            mend = f"is not what {found.file} was trained on; train anew, in another directory"
            raise ConfigError("data", data.name, mend)
        data.position = (found.epochs, found.batches)
    if plain["data"]["shape"] is None:  # a file's images say themselves what they are
        OmegaConf.update(config, "data.shape", list(data.shape or ()))
        plain = resolve(config)
    model: VAE = build(plain["model"], "model", allowed)
    images = data.starting_images()
    example = probe(model, objective, images, f"{data.name} ({data.protocol})")
    model.initialize(images)
    objective.prepare(len(data.splits["train"]))

    resumed = list(found.resumed) if found else []
    record = {
        "model": plain["model"],
        "data": plain["data"],
        "seed": plain["seed"],
        "provenance": data.provenance(),
        "resumed": resumed,
    }
    optimizer, scheduler = (
        build(plain["optimizer"], "optimizer", allowed),
        build(plain["scheduler"], "scheduler", allowed),
    )
    module = VAEModule(model, objective, optimizer, scheduler, example, data.dequantized_levels, record)
    if found:
        refuse_other_tensors(found.file, module)
    overrides = list(HydraConfig.get().overrides.task)
    hyperparameters = {key: select(plain, key) for key in (*TYPED_KEYS, "data.protocol")} | choices(plain, overrides)
    validated = bool(len(data.splits["val"]) and plain["trainer"]["limit_val_batches"])
    checkpoints = Checkpoints(
        folder / directory.CHECKPOINTS,
        signals,
        every_n_epochs=validation_interval(plain["trainer"]),
        validated=validated,
        best_is_lost=found is not None and not found.best,
    )
    throughput = Throughput()
    watchers: list[pl.Callback] = [
        throughput,
        History(folder),
        EpochLines(throughput),
        Dashboard(hyperparameters),
        RandomStates(),
        build(plain["guard"], "guard", allowed)(folder, plain),
        checkpoints,
    ]
    if plain["trial"] is not None:
        watchers.append(Pruning(**build(plain["trial"], "trial", allowed)))
    trainer = make_trainer(plain, folder, module, watchers, allowed, validated=validated)
    data.check_batches(objective.least_batch, trainer.world_size, validated=validated)
    if owner:
        texts = {
            directory.CONFIG: OmegaConf.to_yaml(OmegaConf.create(plain)),
            directory.OVERRIDES: OmegaConf.to_yaml(OmegaConf.create(overrides)),
            directory.MARK: mark,
        }
        directory.begin(folder, found.logs if found else {}, checkpoint_bytes(module), texts)
        log.info("training in %s", folder)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=found.file if found else None)
        # Read before testing: that restores the callbacks to where the best checkpoint was written.
        epochs = max(trainer.current_epoch, found.epochs if found else 0)
        seconds, rate, best = throughput.seconds, throughput.rate, checkpoints.values
        (tested,) = trainer.test(module, datamodule=data, ckpt_path=checkpoints.best, verbose=False)
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    except ValueError as error:
        if "val_check_interval" not in str(error):
            raise
        raise NelboError(f"trainer.val_check_interval: {first_line(error)}") from error
    except Stopped:
        if isinstance(launcher := trainer.strategy.launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGTERM)  # ranks that wait for one that is not there yet, or not any more
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
        "identity": same,
        "seed": plain["seed"],
        "threads": torch.get_num_threads(),
        "epochs": epochs,
        "train_seconds": seconds,
        "images_per_second": rate,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if resumed:
        metrics["resumed"] = resumed
    if "test/bits_per_dim" in metrics:  # both count bits of stored pixels, but the second bounds them once more
        metrics["bits_per_dim_by"] = "uniform dequantisation" if data.dequantized_levels else "probabilities"
    diverged = [key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
    if diverged:
        raise Diverged(f"training diverged: {diverged[0]} is {metrics[diverged[0]]}; lower optimizer.lr")
    return metrics


def refuse_other_tensors(file: Path, module: VAEModule) -> None:
    """What a run goes on from must fit its model, whatever `resume_changes` allows.

    Raises:
        CheckpointError: if it does not.
    """
    try:
        module.load_state_dict(read_checkpoint(file)["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its tensors are not those of this config's model") from error


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


def probe(model: VAE, objective: Objective, x: Tensor, origin: str) -> Trace:
    """One small pass before training: refuse pairs without meaning, and pixels outside the likelihood's support.

    Raises:
        ConfigError: naming the pair and the ways out.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        trace = model.eval().trace(x[:PROBE], objective.num_samples)
    model.train()
    objective.check(trace)
    support = trace.px.support
    if support is not None and not support.check(x).all():
        mend = f"{origin} has pixels outside its support: {model.likelihood.mend}"
        chosen = HydraConfig.get().runtime.choices.get("likelihood", type(model.likelihood).__name__)
        raise ConfigError("likelihood", chosen, mend, located=True)
    return trace
