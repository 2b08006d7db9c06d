"""Random states of all devices: observers leave them unchanged, and resumed runs restore them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from nelbo.evaluation.classifier import train
from nelbo.evaluation.measure import Subject
from nelbo.finished.run import FinishedRun
from nelbo.numerics.randomness import isolated, restore, states, torch_states
from nelbo.training.callbacks import Pictures, RandomStates, Strips, TrainingScalars
from tests.helpers.diverging import Training
from tests.helpers.forks import ROOT
from tests.helpers.standin import StandIn

KINDS = pytest.mark.parametrize(("kind", "count"), [("mps", 1), ("xpu", 2)])


class Noise(pl.Callback):
    """A callback that draws from an accelerator in every training step, as a model on it would."""

    def __init__(self, device: StandIn) -> None:
        self.device, self.drawn = device, list[Tensor]()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.drawn.append(self.device.noise())


def draws(device: StandIn) -> list[Any]:
    accelerator = [device.noise(index).tolist() for index in range(len(device.generators))]
    return [accelerator, torch.rand(3).tolist(), random.random(), np.random.random()]


def test_noise_on_an_accelerator_is_one_stream_across_validations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation, pictures and scalars in between do not make the noise repeat."""
    device = StandIn(monkeypatch)
    noise = Noise(device)
    callbacks = (noise, TrainingScalars(), Pictures(every_n_epochs=1), Strips(num_images=2))
    training = Training(tmp_path, "posterior=flow", "trainer.max_epochs=3", callbacks=callbacks).fit()
    training.trainer.test(training.module, datamodule=training.data, verbose=False)
    stream = torch.Generator().manual_seed(0)
    assert len(noise.drawn) >= 6
    for step, drawn in enumerate(noise.drawn):
        assert torch.equal(drawn, torch.rand(3, generator=stream)), f"step {step}"


@KINDS
def test_isolated_draws_do_not_affect_later_ones(monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    device = StandIn(monkeypatch, kind, count)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    expected = [draws(device), draws(device)]
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    assert draws(device) == expected[0]
    with isolated(5):
        isolated_draws = draws(device)
    with pytest.raises(KeyError), isolated():
        draws(device)
        raise KeyError
    assert draws(device) == expected[1] != isolated_draws


def test_measures_and_their_classifier_do_not_change_the_state_of_an_accelerator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = FinishedRun.open(ROOT / "tests" / "checkpoints" / "format-2" / "linear_vae.ckpt").subject(
        split="test", device="cpu"
    )
    device = StandIn(monkeypatch)
    torch.manual_seed(1)
    stream = torch.Generator().manual_seed(1)
    subject.map("codes", lambda x: {"z": subject.model.encode(x).sample()}, limit=100)
    monkeypatch.setattr("nelbo.evaluation.classifier.STEPS", 2)
    assert isinstance(subject, Subject) and train(subject)
    assert torch.equal(device.noise(), torch.rand(3, generator=stream))


def test_unused_accelerator_is_not_started_and_starts_from_the_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = StandIn(monkeypatch, "xpu")
    device.started = False
    monkeypatch.setattr(
        torch.xpu, "get_rng_state", lambda index: pytest.fail("reading the state would start the accelerator")
    )
    torch.manual_seed(7)
    with isolated(9):
        assert states()["accelerator"] is None
    assert torch.equal(device.noise(), torch.rand(3, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("others", [True, False])
def test_state_is_restored_to_the_device_that_the_process_computes_on(
    monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    device = StandIn(monkeypatch, "xpu", 2)
    saved = torch_states(torch.device("xpu", 1), others=others)
    expected = device.noise(1)
    restore(saved, torch.device("xpu", 0))
    assert torch.equal(device.noise(0), expected)


def test_states_of_another_kind_of_accelerator_and_of_earlier_versions_are_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Earlier versions saved the state of one CUDA device, or None."""
    cpu = torch.get_rng_state()
    expected = torch.rand(3)
    for saved in ({"cuda": None}, {"cuda": torch.zeros(16, dtype=torch.uint8)}, {"accelerator": None}):
        restore({"torch": cpu, **saved})
        assert torch.equal(torch.rand(3), expected)
    device = StandIn(monkeypatch)
    state = device.generators[0].get_state()
    restore({"torch": cpu, "accelerator": {"type": "cuda", "own": 0, "states": {0: state}}}, torch.device("cpu"))
    assert torch.equal(device.generators[0].get_state(), state) and torch.equal(torch.rand(3), expected)


def test_checkpoints_restore_the_states_of_all_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = StandIn(monkeypatch)
    training = Training(tmp_path, "trainer.max_epochs=1", callbacks=(RandomStates(),)).fit()
    training.trainer.save_checkpoint(tmp_path / "saved.ckpt")
    expected = draws(device)
    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    callback = RandomStates()
    callback.on_load_checkpoint(training.trainer, training.module, saved)
    callback.on_train_start(training.trainer, training.module)
    assert draws(device) == expected
    saved["random_states"]["ranks"] *= 2  # as of two processes: their states are not restored, and a new stream starts
    callback.on_load_checkpoint(training.trainer, training.module, saved)
    callback.on_train_start(training.trainer, training.module)
    first = torch.rand(3, generator=torch.Generator().manual_seed(torch.initial_seed()))
    assert torch.initial_seed() != 0 and torch.equal(torch.rand(3), first) and torch.equal(device.noise(), first)
