"""A callback that follows the exponential moving average of the weights, independently of the code under test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

__all__ = ["Follow"]


class Follow(pl.Callback):
    """Computes the average of the parameters in float64 after each update, and compares the module's with it.

    An update that changed no parameter was skipped. `error` is the largest difference of the module's average from this
    one so far, in validations and at the end of training.

    Args:
        decay: the largest decay.
        file: a file in which each process leaves `error` and its number of updates at the end; its rank is appended.
    """

    def __init__(self, decay: float, file: str | None = None) -> None:
        self.decay, self.file = decay, file
        self.updates, self.error = 0, 0.0
        self.averages: dict[str, Tensor] = {}
        self.raw: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.raw = values(pl_module)
        self.averages = {name: value.double() for name, value in self.raw.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        before, self.raw = self.raw, values(pl_module)
        if all(torch.equal(value, before[name]) for name, value in self.raw.items()):
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.averages = {name: decay * old + (1 - decay) * self.raw[name] for name, old in self.averages.items()}
        self.updates += 1

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *rest: Any) -> None:
        self.compare(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        assert all(torch.equal(value, self.raw[name]) for name, value in values(pl_module).items())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.compare(pl_module)
        if self.file is not None:
            result = {"error": self.error, "updates": self.updates, "of_module": pl_module.average.updates}
            Path(f"{self.file}-{trainer.global_rank}.json").write_text(json.dumps(result))

    def compare(self, module: nn.Module) -> None:
        """Compare the values that the parameters have now with the average."""
        now = values(module)
        self.error = max([self.error, *((now[name] - self.averages[name]).abs().max().item() for name in now)])


def values(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters by name."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
