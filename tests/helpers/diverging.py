"""Training of a small model in this process, with something done to it on the way."""

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

Change = Callable[[VAEModule], None]


class Poke(pl.Callback):
    """Changes the model before the forward pass of some steps, and notes what it was given there."""

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
    return copy.deepcopy(_composed(*overrides))


@functools.cache
def _composed(*overrides: str) -> dict[str, Any]:
    register_resolvers()
    typed = ["model=mlp_vae", "data=digits", "trainer=cpu", "trainer.max_epochs=2", "budget.validate_every_n_epochs=1"]
    typed += ["model.latent_dim=3", "model.encoder.hidden=[8]", "model.decoder.hidden=[8]", *overrides]
    with initialize_config_dir(str(ROOT / "conf"), **hydra_options()):
        plain: Any = OmegaConf.to_container(compose("config", overrides=typed), resolve=True)
    return plain  # type: ignore[no-any-return]


class Training:
    """A module, its data and its Trainer with a Guard, which comes after the other callbacks."""

    def __init__(
        self, folder: Path, *overrides: str, callbacks: tuple[pl.Callback, ...] = (), guard: bool = True, **options: Any
    ) -> None:
        plain = make_config(*overrides)
        pl.seed_everything(plain["seed"], verbose=False)
        self.data: ImageData = build(plain["data"], "data")
        self.data.setup()
        model = build(plain["model"], "model")
        objective = build(plain["objective"], "objective")
        images = self.data.starting_images()
        with torch.no_grad(), isolated():
            example = model.eval().trace(images[:2], objective.num_samples)
        model.train().initialize(images)
        objective.prepare(len(self.data.splits["train"]))
        optimizer, scheduler = build_optimizer(plain, (), RUN_PREFIXES), build(plain["scheduler"], "scheduler")
        self.module = VAEModule(model, objective, optimizer, scheduler, example, None, {"model": plain["model"]})
        quiet_lightning()
        self.guard = Guard(folder, plain, **{"skip_above": None, **options})
        self.trainer: pl.Trainer = build(plain["trainer"], "trainer")(
            max_steps=-1,  # of which a run counts its own
            logger=pl.loggers.CSVLogger(folder, name="log", version=""),
            callbacks=[*callbacks, *([self.guard] if guard else [])],
            enable_checkpointing=any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
        )

    def fit(self, checkpoint: Path | None = None, position: tuple[int, int] = (0, 0)) -> Training:
        """Train; or go on from a checkpoint, which was written after so many epochs and batches of the next."""
        self.data.position = position
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=checkpoint)
        return self


def infinite_loss(module: VAEModule) -> None:
    """The reconstruction term becomes infinite: every pixel is predicted 1e30."""
    module.model.likelihood.project.layers[0].bias.fill_(1e30)  # type: ignore[union-attr, operator, index]


def infinite_kl(module: VAEModule) -> None:
    """The KL becomes infinite: every code is 1e30. Nothing else is."""
    module.model.posterior.project.layers[0].bias[:3] = 1e30  # type: ignore[union-attr, operator, index]


def infinite_gradient(module: VAEModule) -> None:
    """The loss of one image becomes 1.5e38, its derivative by sigma = 1/2 is four times that: too much for float32."""
    module.model.likelihood.log_sigma.fill_(math.log(0.5))  # type: ignore[operator, union-attr]
    module.model.likelihood.project.layers[0].bias.fill_(0.5 * math.sqrt(3e38 / 64))  # type: ignore[union-attr, operator, index]


def spoilt_decoder(module: VAEModule) -> None:
    """A weight of the decoder is infinite: its unit is saturated and finite, gradients below it are not."""
    module.model.decoder.layers[0].weight.view(-1)[0] = math.inf  # type: ignore[union-attr, operator, index]


def spoilt_encoder(module: VAEModule) -> None:
    """A weight of the encoder is infinite."""
    module.model.encoder.layers[1].weight.view(-1)[0] = math.inf  # type: ignore[union-attr, operator, index]
