"""User-defined components of a model, a run, Hydra and an evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.experimental.callback import Callback

from nelbo.data import Arrays
from nelbo.data.sets.digits import digits
from nelbo.errors import ConfigError
from nelbo.evaluation.measure import Findings, Measure, Subject
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO

__all__ = ["Elbo", "Float32Spy", "Note", "Started", "Units", "Wide", "all_digits", "digits_in", "few_digits"]


class Wide(MLP):
    """A network with one hidden layer."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None, *, width: int) -> None:
        super().__init__(in_shape, shape, hidden=[width], activation="ReLU")


class Float32Spy(pl.Callback):
    """Records the float32 precision in the first batch of each stage.

    Args:
        file: where the record is written, as JSON.
    """

    def __init__(self, file: str) -> None:
        self.file, self.notes = Path(file), dict[str, str]()

    def note(self, stage: str) -> None:
        """Record the precision of a stage, once."""
        self.notes.setdefault(stage, torch.backends.cudnn.conv.fp32_precision)
        self.file.write_text(json.dumps(self.notes))

    def on_train_batch_start(self, *arguments: object) -> None:
        self.note("train")

    def on_validation_batch_start(self, *arguments: object) -> None:
        self.note("val")

    def on_test_batch_start(self, *arguments: object) -> None:
        self.note("test")


class Elbo(NegativeELBO):
    """A subclass of the negative ELBO."""


def few_digits(count: int = 300) -> Arrays:
    """Return the digits with only the first `count` training images."""
    whole = digits()
    return Arrays(whole.train.take(torch.arange(count)), whole.test, classes=whole.classes)


def all_digits() -> Arrays:
    """Return the digits."""
    return digits()


def digits_in(root: str) -> Arrays:
    """Return the digits, as if they were read from the folder `root`."""
    if not Path(root).is_dir():
        raise ConfigError("root", root, "is not a folder")
    return digits()


class Note(pl.Callback):
    """Writes a file when training starts."""

    def __init__(self, file: str) -> None:
        self.file = file

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        Path(self.file).write_text("trained")


class Started(Callback):
    """Writes a file for each job that Hydra starts."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        Path(self.folder, f"latents-{config.model.latent_dim}").write_text("started")


class Units(Measure):
    """The number of latents."""

    def __call__(self, subject: Subject) -> Findings:
        return Findings(values={"units": subject.model.latent_dim})
