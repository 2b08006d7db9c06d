"""A training step reads no value of a tensor, for which a GPU would have to finish all of its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from nelbo.numerics import devices
from nelbo.training.callbacks import TrainingScalars
from tests.helpers.diverging import Training
from tests.helpers.reading import Reads

FIRST, LAST = 3, 5
"""Batches that are counted: those after the optimiser has a state and before the epoch ends."""

MODELS = {
    "mlp_vae": ("model=mlp_vae",),
    "conv_vae": ("model=conv_vae",),
    "flow_prior": ("model=mlp_vae", "prior=flow"),
    "spline_prior": ("model=mlp_vae", "prior=flow", "model.prior.kind=spline"),
    "flow_posterior": ("model=mlp_vae", "posterior=flow"),
    "vq_vae": ("model=vq_vae",),
    "vq_vae_autoregressive": ("model=vq_vae", "prior=autoregressive"),
    "categorical": ("model=mlp_vae", "posterior=categorical", "prior=categorical"),
    "hard": ("model=mlp_vae", "posterior=categorical", "prior=uniform", "model.posterior.straight_through=true"),
    "vamp": ("model=mlp_vae", "prior=vamp"),
    "ladder_vae": ("model=ladder_vae",),
    "top_down_vae": ("model=top_down_vae",),
    "optimal_sigma": ("model=mlp_vae", "likelihood=gaussian_optimal"),
    "clipped": ("model=mlp_vae", "trainer.gradient_clip_val=1.0"),
    "accumulated": ("model=mlp_vae", "trainer.accumulate_grad_batches=2"),
    "averaged": ("model=mlp_vae", "averaging=ema"),
}


class Count(pl.Callback):
    """Counts from the start of one batch to the start of another one: batches are fetched and presented between."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == LAST:
            self.reads.stop()
        elif batch_idx == FIRST:
            self.reads.start()


def reads_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, **options: Any) -> dict[str, int]:
    reads = Reads(monkeypatch)
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=6", "trainer.limit_val_batches=0")
    callbacks = (Count(reads), TrainingScalars())
    Training(folder, *overrides, "data.batch_size=16", *short, callbacks=callbacks, **options).fit()
    return dict(reads.count)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_on_a_device_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(devices, "reads_freely", lambda device: False)
    assert reads_of(tmp_path, monkeypatch, *MODELS[name]) == {}


def test_a_step_that_may_be_skipped_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "reads_freely", lambda device: False)
    assert reads_of(tmp_path, monkeypatch, "likelihood=gaussian_optimal", skip_above=100.0) == {}


def test_only_the_guard_reads_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This also shows that reads are seen: those of the loss, and of the sum of each gradient."""
    reads = reads_of(tmp_path, monkeypatch, "model=mlp_vae", "prior=flow")
    assert reads and all(" < guard.py" in place for place in reads), reads


def test_an_optimiser_that_cannot_skip_on_its_device_is_checked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "reads_freely", lambda device: False)
    reads = reads_of(tmp_path, monkeypatch, "model=mlp_vae", "optimizer=adamax")
    assert [place for place in reads if "guard.py" in place]
