"""Training of a small model in this process, with changes to the model at chosen steps."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.build import RUN_PREFIXES, build
from nelbo.data.module import ImageData
from nelbo.numerics.randomness import isolated
from nelbo.training import VAEModule
from nelbo.training.callbacks import Guard
from nelbo.training.optimizers import build_optimizer
from nelbo.training.trainer import quiet_lightning
from tests.helpers.forks import ROOT

SMALL = (
    "model.latent_dim=3",
    "model.encoder.hidden=[8]",
    "model.decoder.hidden=[8]",
    "budget.validate_every_n_epochs=1",
)
Change = Callable[[VAEModule], None]
"""A function that modifies the module in place."""


class Poke(pl.Callback):
    """Changes the model before the forward pass of chosen steps, and records its state and input there.

    Args:
        change: applied before the forward pass.
        steps: optimiser steps at which it is applied.
        undo: applied after every batch.
    """

    def __init__(self, change: Change, *steps: int, undo: Change | None = None) -> None:
        self.change, self.steps, self.undo = change, steps, undo
        self.before: dict[str, torch.Tensor] = {}
        self.x = torch.empty(0)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            with torch.no_grad():
                self.change(pl_module)
            self.before = {name: value.clone() for name, value in pl_module.state_dict().items()}
            self.x = batch[0].clone()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.undo is not None:
            with torch.no_grad():
                self.undo(pl_module)


def make_config(*overrides: str) -> dict[str, Any]:
    """Return the resolved config of a run, as plain containers; without `model=...`, of a small `tanh_mlp_vae`."""
    return copy.deepcopy(_composed(*overrides))


@functools.cache
def _composed(*overrides: str) -> dict[str, Any]:
    register_resolvers()
    small = () if any(override.startswith("model=") for override in overrides) else ("model=tanh_mlp_vae", *SMALL)
    arguments = ["data=digits", "trainer=cpu", "trainer.max_epochs=2", *small, *overrides]
    with initialize_config_dir(str(ROOT / "conf"), **hydra_options()):
        plain: Any = OmegaConf.to_container(compose("config", overrides=arguments), resolve=True)
    return plain  # type: ignore[no-any-return]


class Training:
    """A module, its data and its Trainer with a Guard, which is the last callback."""

    def __init__(
        self, folder: Path, *overrides: str, callbacks: tuple[pl.Callback, ...] = (), guard: bool = True, **options: Any
    ) -> None:
        plain = make_config(*overrides)
        pl.seed_everything(plain["seed"], verbose=False)
        self.data: ImageData = build(plain["data"], "data")
        self.data.setup()
        model = build(plain["model"], "model")
        objective = build(plain["objective"], "objective")
        images = self.data.starting_batch().x
        with torch.no_grad(), isolated():
            example = model.eval().trace(images[:2], objective.num_samples)
        model.train().initialize(images)
        objective.prepare(len(self.data.splits["train"]))
        optimizer, scheduler = build_optimizer(plain, (), RUN_PREFIXES), build(plain["scheduler"], "scheduler")
        averaging = build(plain["averaging"], "averaging") if plain["averaging"] else None
        options_of_rate = {"lr_warm_up": plain["lr_warm_up"], "averaging": averaging}
        record = {"model": plain["model"]}
        self.module = VAEModule(model, objective, optimizer, scheduler, example, None, record, **options_of_rate)
        quiet_lightning()
        self.guard = Guard(folder, plain, **{"skip_above": None, **options})
        self.trainer: pl.Trainer = build(plain["trainer"], "trainer")(
            max_steps=-1,  # a run counts its own steps
            logger=pl.loggers.CSVLogger(folder, name="log", version=""),
            callbacks=[*callbacks, *([self.guard] if guard else [])],
            enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
        )

    def fit(self, checkpoint: Path | None = None, position: tuple[int, int] = (0, 0)) -> Training:
        """Train, from the start or from a checkpoint.

        Args:
            checkpoint: the checkpoint to resume from.
            position: the number of finished epochs, and of batches of the next epoch, when it was written.
        """
        self.data.position = position
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint)
        return self


def infinite_loss(module: VAEModule) -> None:
    """Make the reconstruction term infinite: every pixel is predicted as 1e30."""
    module.model.likelihood.project.layers[0].bias.fill_(1e30)  # type: ignore[union-attr, operator, index]


def infinite_kl(module: VAEModule) -> None:
    """Make only the KL infinite: every code is 1e30."""
    module.model.posterior.project.layers[0].bias[:3] = 1e30  # type: ignore[union-attr, operator, index]


def infinite_gradient(module: VAEModule) -> None:
    """Make only the gradient infinite.

    The loss of an image is 1.5e38; its derivative, at sigma = 1/2, is four times that, which exceeds float32.
    """
    module.model.likelihood.log_sigma.fill_(math.log(0.5))  # type: ignore[operator, union-attr]
    module.model.likelihood.project.layers[0].bias.fill_(0.5 * math.sqrt(3e38 / 64))  # type: ignore[union-attr, operator, index]


def spoilt_decoder(module: VAEModule) -> None:
    """Set a decoder weight to infinity: its unit saturates and stays finite, but gradients through it are not."""
    module.model.decoder.layers[0].weight.view(-1)[0] = math.inf  # type: ignore[union-attr, operator, index]


def spoilt_encoder(module: VAEModule) -> None:
    """Set an encoder weight to infinity."""
    module.model.encoder.layers[1].weight.view(-1)[0] = math.inf  # type: ignore[union-attr, operator, index]
