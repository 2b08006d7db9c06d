"""One run: check, build, fit, test, report. The only reader of a DictConfig."""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from nelbo.build import build
from nelbo.cli import TYPED_KEYS
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError, NelboError, choice, first_line, integer, number, positive_integer
from nelbo.identity import identity
from nelbo.models import VAE
from nelbo.objectives import Objective
from nelbo.report import headline, print_report
from nelbo.trace import Trace
from nelbo.training import VAEModule
from nelbo.training.callbacks import BestMetrics, Dashboard, EpochLines, History, Pruning, Throughput
from nelbo.training.callbacks.best import MONITOR
from nelbo.training.hooks import leave_out_idle_hooks

log = logging.getLogger(__name__)

# Numbers whose objects are other people's, and would refuse them late, at length or not at all.
CHECKS: dict[str, Callable[[str, object], object]] = {
    "seed": lambda key, value: integer(key, value, minimum=0, maximum=2**32 - 1),
    "trainer.precision": lambda key, value: choice(key, value, ("32-true", "bf16-mixed")),
    "optimizer.lr": lambda key, value: number(key, value, positive=True),
    "trainer.max_epochs": positive_integer,
    "trainer.check_val_every_n_epoch": positive_integer,
    "trainer.log_every_n_steps": positive_integer,
}
PROBE = 2
RESULTS = ("metrics.json", "evaluation.json", "evaluation.npz")


def run(config: DictConfig) -> float:
    """Train and test what `config` says, in Hydra's run directory.

    Returns:
        `val/nelbo` of the best checkpoint, or `test/nelbo` without a validation set; the reconstruction of a model that
        has no ELBO.

    Raises:
        NelboError: for anything that the user can mend.
    """
    plain = resolve(config)
    folder = Path(HydraConfig.get().runtime.output_dir)
    overrides = list(HydraConfig.get().overrides.task)
    write_configs(plain, overrides, folder)
    same = identity(plain)
    if plain["threads"] is not None:
        torch.set_num_threads(positive_integer("threads", plain["threads"]))
    pl.seed_everything(plain["seed"], workers=True, verbose=False)

    data: ImageData = build(plain["data"], "data")
    objective: Objective = build(plain["objective"], "objective")
    try:
        data.setup()
    except ConfigError as error:
        raise error.within("data") from error.__cause__
    if plain["data"]["shape"] is None:  # a file's images say themselves what they are
        OmegaConf.update(config, "data.shape", list(data.shape or ()))
        plain = resolve(config)
        write_configs(plain, overrides, folder)
    model: VAE = build(plain["model"], "model")
    images = data.starting_images()
    example = probe(model, objective, images, f"{data.name} ({data.protocol})")
    model.initialize(images)

    record = {"model": plain["model"], "data": plain["data"], "seed": plain["seed"], "provenance": data.provenance()}
    optimizer, scheduler = build(plain["optimizer"], "optimizer"), build(plain["scheduler"], "scheduler")
    module = VAEModule(model, objective, optimizer, scheduler, example, data.dequantized_levels, record)
    best, throughput = BestMetrics(), Throughput()
    hyperparameters = {key: select(plain, key) for key in (*TYPED_KEYS, "data.protocol")} | choices(plain, overrides)
    validates = bool(len(data.splits["val"]) and plain["trainer"]["limit_val_batches"])
    every = validation_interval(plain["trainer"])
    checkpoint = checkpoints(folder, every, validated=validates)
    watchers = [throughput, best, History(folder), EpochLines(throughput), Dashboard(hyperparameters), checkpoint]
    if plain["trial"] is not None:
        watchers.append(Pruning(**build(plain["trial"], "trial")))
    trainer = make_trainer(plain, folder, watchers, every, validated=validates)
    leave_out_idle_hooks(module, trainer.callbacks)  # type: ignore[attr-defined] # set by Lightning's connector
    if trainer.is_global_zero:
        log.info("training in %s", folder)
    try:
        trainer.fit(module, datamodule=data)
        # Read before testing: that restores the callbacks to where the best checkpoint was written.
        epochs, seconds, rate, validated = trainer.current_epoch, throughput.seconds, throughput.rate, dict(best.values)
        if not checkpoint.best_model_path:
            raise NelboError(
                "trainer: ended before its first validation, so there is no checkpoint; give it more epochs"
            )
        (tested,) = trainer.test(module, datamodule=data, ckpt_path=checkpoint.best_model_path, verbose=False)
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error

    metrics: dict[str, Any] = {
        **validated,
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
    if "test/bits_per_dim" in metrics:  # both count bits of stored pixels, but the second bounds them once more
        metrics["bits_per_dim_by"] = "uniform dequantisation" if data.dequantized_levels else "probabilities"
    diverged = [key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
    if diverged:
        raise NelboError(f"training diverged: {diverged[0]} is {metrics[diverged[0]]}; lower optimizer.lr")
    write_metrics(metrics, folder)
    if trainer.is_global_zero:
        print_report(metrics, folder)
    return headline(metrics)


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain containers, its numbers checked.

    Raises:
        ConfigError: for a missing value, a bad interpolation or a number out of range.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    for key, check in CHECKS.items():
        check(key, select(plain, key))
    return plain


def select(plain: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    value: Any = plain
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def choices(plain: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The model and data that were chosen and everything else overridden, for TensorBoard's hparams tab."""
    chosen = {group: HydraConfig.get().runtime.choices[group] for group in ("model", "data", "likelihood")}
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
        raise ConfigError("likelihood", HydraConfig.get().runtime.choices["likelihood"], mend, located=True)
    return trace


def validation_interval(trainer: Mapping[str, Any]) -> int:
    """Epochs between validations: at most what the config says, and such that the last epoch is validated too."""
    epochs, most = trainer["max_epochs"], trainer["check_val_every_n_epoch"]
    return max(interval for interval in range(1, most + 1) if epochs % interval == 0)


def checkpoints(folder: Path, every_n_epochs: int, *, validated: bool) -> ModelCheckpoint:
    """last.ckpt, and best.ckpt by the objective on the validation set; without one the last is the best."""
    return ModelCheckpoint(
        dirpath=folder / "checkpoints",
        filename="best",
        monitor=MONITOR if validated else None,
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        every_n_epochs=every_n_epochs,
        save_on_train_epoch_end=not validated,
    )


def quiet_lightning() -> None:
    """Leave out what Lightning says that is no news here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Batches are slices of memory: workers would only copy them.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # TrainingScalars writes the first step too, so that no run is without scalars.
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Between Lightning and torch; nothing of ours.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


def make_trainer(
    plain: Mapping[str, Any], folder: Path, watchers: list[pl.Callback], every: int, *, validated: bool
) -> pl.Trainer:
    """The Trainer of the config with its logger and callbacks.

    Raises:
        NelboError: if Lightning refuses it, for want of a GPU for instance.
    """
    quiet_lightning()
    make_logger = build(plain["logger"], "logger")
    callbacks = [callback for callback in build(plain["callbacks"], "callbacks").values() if callback]
    options = {} if validated else {"limit_val_batches": 0}
    options["check_val_every_n_epoch"] = every
    try:
        trainer: pl.Trainer = build(plain["trainer"], "trainer")(
            logger=make_logger(save_dir=folder) if make_logger else False,
            callbacks=callbacks + watchers,
            default_root_dir=folder,
            enable_progress_bar=any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks),
            **options,
        )
    except MisconfigurationException as error:
        raise NelboError(f"trainer: {first_line(error)}") from error
    return trainer


@rank_zero_only
def write_configs(plain: Mapping[str, Any], overrides: list[str], folder: Path) -> None:
    """config.yaml, resolved, and overrides.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in RESULTS:  # of an earlier run in this directory, and its checkpoint
        (folder / earlier).unlink(missing_ok=True)
    OmegaConf.save(OmegaConf.create(dict(plain)), folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")


@rank_zero_only
def write_metrics(metrics: Mapping[str, Any], folder: Path) -> None:
    """metrics.json, whole or not at all."""
    partial = folder / ".metrics.json.partial"
    partial.write_text(json.dumps(metrics, indent=2) + "\n")
    os.replace(partial, folder / "metrics.json")
