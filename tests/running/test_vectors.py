"""Runs on data that are no 8-bit images: vectors of real numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import nelbo
from nelbo.checkpoints.record import read_checkpoint
from nelbo.finished.run import FinishedRun
from tests.helpers.forks import Train, forked

pytestmark = pytest.mark.usefixtures("cache")
SIZE, UNITS = 20, 3
RANDOM = np.random.default_rng(1)
LOADINGS = RANDOM.normal(size=(UNITS, SIZE))
MEAN = np.linspace(-10, 30, SIZE)
NOISE = 0.5


def vectors(count: int, mean: np.ndarray = MEAN) -> np.ndarray:
    """Return draws of N(mean, LOADINGS' LOADINGS + NOISE^2 I), (count, SIZE)."""
    codes, noise = RANDOM.normal(size=(count, UNITS)), RANDOM.normal(size=(count, SIZE))
    return mean + codes @ LOADINGS + NOISE * noise


def test_an_mlp_vae_trains_on_vectors_with_all_its_pictures(tmp_path: Path, train: Train) -> None:
    file, x = tmp_path / "x.npz", vectors(400)
    np.savez(file, x=x, y=np.arange(400) % 4, factors=np.stack([np.arange(400) % 2, np.arange(400) % 5], axis=1))
    overrides = ("data=arrays", f"data.path={file}", "model=mlp_vae", "model.latent_dim=2", "likelihood=gaussian")
    done = train(*overrides, "trainer=smoke", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert f"shape:\n  - {SIZE}" in (run / "config.yaml").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert math.isfinite(metrics["test/nelbo"]) and "test/bits_per_dim" not in metrics
    assert (run / "pictures" / "samples.png").exists() and (run / "pictures" / "reconstructions.png").exists()

    model = nelbo.load(run)
    assert model.shape == (SIZE,)
    low, high = model.value_range or (0, 0)
    assert x.min() - 1e-3 <= low < high <= x.max() + 1e-3
    assert read_checkpoint(run / "checkpoints" / "best.ckpt")["nelbo"]["value_range"] == [low, high]
    q = model.encode(torch.from_numpy(x[:5]).float())
    assert q.mean.shape == (5, 2) and model.generate(3).mean.shape == (3, SIZE)
    for wrong, message in ((torch.full((2, SIZE), torch.nan), "expected finite numbers"), (torch.zeros(2, 3), "shape")):
        with pytest.raises(ValueError, match=message):
            model.encode(wrong)
    with pytest.raises(ValueError, match="in the units of the training data"):
        model.encode(torch.zeros(2, SIZE, dtype=torch.int64))

    subject = FinishedRun.open(run).subject(split="test", device="cpu", seed=0, batch_size=50)
    assert subject.images[torch.arange(3)].shape == (3, SIZE)
    assert subject.images.factors is not None and subject.images.factors.shape == (40, 2)


def test_the_default_likelihood_of_arrays_is_refused_for_floats(tmp_path: Path, train: Train) -> None:
    np.save(tmp_path / "x.npy", vectors(100).astype(np.float32))
    np.save(tmp_path / "y.npy", RANDOM.normal(size=(100, 8, 8)))
    cases = (
        (
            "x",
            ("model=mlp_vae",),
            "likelihood=discretized_logistic: needs pixels of 8 bits, and arrays holds floats from",
        ),
        (
            "x",
            ("model=mlp_vae", "likelihood=bernoulli"),
            "likelihood=bernoulli: arrays (raw) has pixels outside its support",
        ),
        (
            "x",
            ("likelihood=gaussian",),
            "needs an image of shape [channels, height, width]; of vectors use model=mlp_vae",
        ),
        ("y", ("model=mlp_vae",), "use likelihood=gaussian or laplace, or save np.round("),
        (
            "x",
            ("model=mlp_vae", "likelihood=gaussian", "data.protocol=dynamic"),
            "takes floats in [0, 1] as probabilities",
        ),
    )
    for name, overrides, message in cases:
        done = train("data=arrays", f"data.path={tmp_path / name}.npy", *overrides, "trainer=smoke")
        assert done.returncode != 0 and message in done.stderr, (overrides, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_linear_vae_reaches_the_exact_log_likelihood_of_gaussian_vectors(tmp_path: Path, train: Train) -> None:
    """Probabilistic PCA with as many latents as the data have is their distribution, and its ELBO is log p(x)."""
    mean, covariance = np.linspace(-1, 2, SIZE), LOADINGS.T @ LOADINGS + NOISE**2 * np.eye(SIZE)
    x = vectors(4096 + 1000, mean)
    np.savez(tmp_path / "x.npz", x_train=x[:4096], x_test=x[4096:])
    overrides = ("data=arrays", f"data.path={tmp_path / 'x.npz'}", "data.validation_size=0", "likelihood=gaussian")
    linear = ("model=linear_vae", f"model.latent_dim={UNITS}", "trainer.max_epochs=100")
    done = train(*overrides, *linear, "callbacks=none", "logger=none")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    done = forked("scripts/evaluate.py", f"run={run}", "metrics=[elbo,nll]", "device=cpu")
    assert done.returncode == 0, done.stderr
    density = torch.distributions.MultivariateNormal(torch.from_numpy(mean), torch.from_numpy(covariance))
    exact = -density.log_prob(torch.from_numpy(x[4096:])).mean().item()
    values = json.loads((run / "evaluation.json").read_text())
    # The maximum-likelihood model of 4,096 examples has a loss of about 80 / 8,192 = 0.01 nats.
    assert abs(values["test/nll"] - exact) < 0.05, (values["test/nll"], exact)
    assert abs(values["test/nelbo"] - exact) < 0.05, (values["test/nelbo"], exact)
    assert not [key for key in values if "bits_per_dim" in key]


def test_a_model_is_conditioned_on_columns_of_the_file(tmp_path: Path, train: Train) -> None:
    x, site = vectors(200), np.array(["york", "bonn"])[np.arange(200) % 2]
    np.savez(tmp_path / "x.npz", x=x, age=x[:, 0], site=site, place=x[:, :2])
    columns = ("data.columns=[age,site,place]", "conditioning=label", "model.conditioning.names=[age,site,place]")
    overrides = ("data=arrays", f"data.path={tmp_path / 'x.npz'}", "model=mlp_vae", "likelihood=gaussian", *columns)
    done = train(*overrides, "trainer=smoke", "callbacks=none", "logger=none")
    assert done.returncode == 0, done.stderr
    model = nelbo.load(tmp_path / "run")
    assert model.context_names == ("age", "place", "site")
    one = model.at(age=torch.tensor(30.0), site=1, place=torch.zeros(2))
    assert one.generate(4).mean.shape == (4, SIZE) and one.value_range == model.value_range
