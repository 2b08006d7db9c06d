"""The LightningModule: the noise of its validation, and the default learning rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from nelbo.training import cosine
from tests.helpers.diverging import Training


class Draws(pl.Callback):
    """Changes the random state before each validation, and records whether it is restored afterwards."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []
        self.restored: list[bool] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.values.append({key: float(value) for key, value in trainer.callback_metrics.items()})

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        torch.manual_seed(100 + trainer.current_epoch)
        self.before = torch.get_rng_state()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.restored.append(torch.equal(torch.get_rng_state(), self.before))


def test_every_validation_draws_the_same_noise_and_restores_the_random_state(tmp_path: Path) -> None:
    """With such a small rate nothing is learned, so only the noise of z could differ between epochs."""
    draws = Draws()
    Training(tmp_path, "optimizer.lr=1e-30", "trainer.max_epochs=3", callbacks=(draws,)).fit()
    assert len(draws.values) == 3 and draws.values[0] == draws.values[1] == draws.values[2]
    assert draws.values[0]["val/reconstruction"] != 0 and draws.restored == [True] * 3


def test_the_default_rate_is_half_a_cosine_down_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = cosine(optimizer, 8)
    rates = []
    for _ in range(9):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1 + math.cos(math.pi * step / 8) for step in range(9)])
    assert rates[8] == 0
