"""Training of a single weight by Lightning, in a few milliseconds, without a model of nelbo."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.optim.lr_scheduler import ConstantLR
from torch.utils.data import DataLoader

from nelbo.training.trainer import quiet_lightning

BATCHES = 4
"""Batches of an epoch, in training and in validation."""


class Model(pl.LightningModule):
    """One weight, with a learning-rate scheduler that does not change the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.validations = 0

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).mean()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("loss", self.weight.detach().mean())

    def on_validation_end(self) -> None:
        self.validations += 1

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [{"scheduler": ConstantLR(optimizer, factor=1.0), "interval": "step"}]


class Data(pl.LightningDataModule):
    """The same few numbers for training and validation."""

    def train_dataloader(self) -> Any:
        return DataLoader(torch.arange(float(BATCHES)).unsqueeze(1))  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return self.train_dataloader()


class Calls(pl.Callback):
    """Calls a function in one hook."""

    def __init__(self, hook: str, function: Callable[[pl.Trainer, Any], None]) -> None:
        setattr(self, hook, lambda trainer, module, *arguments: function(trainer, module))


def make_trainer(folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    quiet_lightning()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_model_summary"), False)
    quiet |= {"enable_progress_bar": False, "num_sanity_val_steps": 0, "accelerator": "cpu", "devices": 1}
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{"max_epochs": 1, **quiet, **options})


def fit(trainer: pl.Trainer, checkpoint: Path | None = None) -> Model:
    model = Model()
    trainer.fit(model, datamodule=Data(), ckpt_path=checkpoint)
    return model


class Saves(pl.callbacks.Checkpoint):
    """Writes a checkpoint at the first call of a hook, after `change` was applied to it."""

    def __init__(self, file: Path, hook: str, change: Callable[[dict[str, Any]], None]) -> None:
        self.file, self.change = file, change
        setattr(self, hook, lambda trainer, *arguments: file.exists() or trainer.save_checkpoint(file))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.change(checkpoint)


def saved_in(folder: Path, hook: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """Train an epoch with a validation after each batch; return a checkpoint that was written in a hook."""
    file = folder / "saved.ckpt"
    fit(make_trainer(folder, Saves(file, hook, change), val_check_interval=1, enable_checkpointing=True))
    return file


def hooks_after(checkpoint: Path) -> list[str]:
    """Resume from a checkpoint of `saved_in`; return whether each batch was of training or began a validation."""
    calls: list[str] = []
    train = Calls("on_train_batch_start", lambda trainer, module: calls.append("train"))
    validation = Calls("on_validation_start", lambda trainer, module: calls.append("validation"))
    trainer = make_trainer(checkpoint.parent, train, validation, val_check_interval=1)
    warnings.filterwarnings("ignore", message="You're resuming from a checkpoint that ended before the epoch ended")
    fit(trainer, checkpoint)
    return calls
