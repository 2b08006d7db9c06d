"""Training from Python, without a command line: the page that shows it works as it is written."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from nelbo.heads import Bernoulli, VectorQuantizedPosterior
from nelbo.models import VAE
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO
from nelbo.priors import Uniform
from nelbo.training import VAEModule
from nelbo.training.batches import example_trace
from tests.helpers.pages import programs


def test_the_page_on_python_works_as_it_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    training, numbers = programs("python.md")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice, such as to use more workers
        exec(training, names)
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.width == picture.height >= 64
    model, module = names["model"], names["module"]
    assert isinstance(model, VAE) and isinstance(module, VAEModule) and isinstance(names["trainer"], pl.Trainer)
    metrics = {name: float(value) for name, value in names["trainer"].callback_metrics.items()}
    assert metrics["test/nelbo"] == pytest.approx(metrics["test/reconstruction"] + metrics["test/kl"], rel=1e-5)
    assert metrics["test/kl"] > 3 and metrics["test/active_units"] > 3  # it has learned something
    capsys.readouterr()
    exec(numbers, names)
    printed = capsys.readouterr().out.splitlines()
    reconstruction, kl, bound = (float(line.partition("(")[2].split(",")[0].rstrip(")")) for line in printed)
    assert bound < reconstruction + kl  # more samples, a tighter bound


def test_an_example_trace_leaves_the_model_as_it_was() -> None:
    network = partial(MLP, hidden=[8], activation="ReLU")
    posterior = partial(VectorQuantizedPosterior, classes=4, decay=0.9, dead_below=0.1)
    model = VAE(
        shape=(1, 4, 4),
        latent_dim=2,
        encoder=network,
        posterior=posterior,
        prior=Uniform,
        decoder=network,
        likelihood=Bernoulli,
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    example_trace(model)
    VAEModule(model, NegativeELBO(beta=1.0, num_samples=1), partial(torch.optim.Adam, lr=1e-3))
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
