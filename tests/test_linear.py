"""The linear VAE against probabilistic PCA and reverse water-filling: exact answers to what training finds.

Shapes: N examples, P pixels, D latent dimensions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import nelbo
from nelbo.data import digits
from nelbo.distributions import DiagonalNormal
from nelbo.models import VAE
from tests.forks import forked

LINEAR = ("model=linear_vae", "data=digits", "data.validation_size=0", "callbacks=none", "logger=none")


def pixels() -> tuple[Tensor, Tensor]:
    """Training and test images, (N, 1, 8, 8), float64 in [0, 1]."""
    arrays = digits()
    return arrays.train.images.double() / 255, arrays.test.images.double() / 255


def spectrum(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, eigenvalues (descending) and eigenvectors of the covariance of images."""
    flat = x.flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    return flat.mean(0), values.flip(0), vectors.flip(1)


def ppca_log_likelihood(train: Tensor, x: Tensor, latent_dim: int) -> float:
    """Mean log p(x), in nats, of the maximum-likelihood model (Tipping & Bishop 1999, eqs. 7 and 8)."""
    mean, values, vectors = spectrum(train)
    sigma2 = values[latent_dim:].mean()
    model = torch.cat([values[:latent_dim], sigma2.expand(len(values) - latent_dim)])
    projected = (x.flatten(1) - mean) @ vectors
    log_p = -0.5 * (projected.square() / model + model.log() + math.log(2 * math.pi)).sum(1)
    return log_p.mean().item()


def elbo_terms(vae: VAE, x: Tensor) -> tuple[float, float]:
    """-E_q[log p(x|z)] and KL, in nats, without noise: the points mu +- sqrt(D) s e_i are exact for a quadratic."""
    q = vae.encode(x)
    assert isinstance(q, DiagonalNormal)
    steps = math.sqrt(vae.latent_dim) * torch.eye(vae.latent_dim, dtype=x.dtype)
    points = q.loc + torch.cat([steps, -steps]).unsqueeze(1) * q.scale
    reconstruction = -vae.decode(points).log_prob(x).mean()
    kl = 0.5 * (q.loc.square() + q.scale.square() - 1 - 2 * q.scale.log()).sum(1).mean()
    return reconstruction.item(), kl.item()


def water_filling(values: Tensor, latent_dim: int, beta: float, sigma2: float) -> tuple[float, float]:
    """Distortion and rate, in nats, at the optimum of a linear beta-VAE with a given sigma^2.

    With theta = beta sigma^2 the units with eigenvalue above theta carry 1/2 log(eigenvalue / theta), and leave theta
    of squared error; all others are left as they are (Shannon's reverse water-filling).
    """
    theta = beta * sigma2
    coded = values[:latent_dim].clamp(min=theta)
    rate = 0.5 * (coded / theta).log().sum().item()
    error = (values[:latent_dim].clamp(max=theta).sum() + values[latent_dim:].sum()).item()
    return 0.5 * error / sigma2 + 0.5 * len(values) * math.log(2 * math.pi * sigma2), rate


def optimal_sigma2(values: Tensor, latent_dim: int, beta: float) -> float:
    """The sigma^2 that a model learns: its own squared error a pixel, by fixed-point iteration."""
    sigma2 = values.mean().item() / 10
    for _ in range(10_000):
        error = values[:latent_dim].clamp(max=beta * sigma2).sum() + values[latent_dim:].sum()
        sigma2 = error.item() / len(values)
    return sigma2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VAE]:
    """`trained(latent_dim, *overrides)` trains each but once."""

    @functools.cache
    def train(latent_dim: int, *overrides: str) -> VAE:
        folder = tmp_path_factory.mktemp("linear")
        done = forked("train.py", *LINEAR, f"model.latent_dim={latent_dim}", *overrides, f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
        return nelbo.load(folder).double()

    return train


@pytest.mark.parametrize("latent_dim", [2, 8, 16])
def test_the_shipped_budget_reaches_probabilistic_pca(trained: Callable[..., VAE], latent_dim: int) -> None:
    vae = trained(latent_dim)
    train_images, test_images = pixels()
    with torch.no_grad():
        for x in (train_images, test_images):
            reconstruction, kl = elbo_terms(vae, x)
            exact = ppca_log_likelihood(train_images, x, latent_dim)
            assert abs(-(reconstruction + kl) - exact) < 0.3
    # On the training images no model can beat the maximum-likelihood one, and no ELBO its likelihood.
    reconstruction, kl = elbo_terms(vae, train_images)
    assert -(reconstruction + kl) <= ppca_log_likelihood(train_images, train_images, latent_dim) + 1e-6


@pytest.mark.parametrize("beta", [0.5, 1, 2])
def test_rate_and_distortion_are_reverse_water_filling(trained: Callable[..., VAE], beta: float) -> None:
    """With the learned sigma that is shipped, as beta = 1 is: its optimum is the squared error a pixel."""
    vae = trained(8, *([f"objective.beta={beta}"] if beta != 1 else []))
    train_images, _ = pixels()
    _, values, _ = spectrum(train_images)
    distortion, rate = water_filling(values, 8, beta, optimal_sigma2(values, 8, beta))
    with torch.no_grad():
        reconstruction, kl = elbo_terms(vae, train_images)
    assert abs(kl / rate - 1) < 0.05
    assert abs(reconstruction - distortion) < 0.5


def test_the_reference_is_what_scikit_learn_says() -> None:
    from sklearn.decomposition import PCA

    train_images, test_images = (x.flatten(1).numpy() for x in pixels())
    pca = PCA(8, svd_solver="full").fit(train_images)
    ours = ppca_log_likelihood(*pixels(), 8)
    # scikit-learn divides the covariance by N - 1; on 1,500 images that is a hundredth of a nat.
    assert abs(pca.score(test_images) - ours) < 0.05
