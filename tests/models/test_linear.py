"""Trained linear VAEs against their exact optima: probabilistic PCA and reverse water-filling.

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
from nelbo.models import VAE
from tests.helpers.forks import forked
from tests.helpers.linear import LINEAR, elbo_terms, optimal_sigma2, pixels, spectrum, water_filling


def ppca_log_likelihood(train: Tensor, x: Tensor, latent_dim: int) -> float:
    """Return the mean log p(x) in nats of the maximum-likelihood model (Tipping & Bishop 1999, eqs. 7 and 8)."""
    mean, values, vectors = spectrum(train)
    sigma2 = values[latent_dim:].mean()
    model = torch.cat([values[:latent_dim], sigma2.expand(len(values) - latent_dim)])
    projected = (x.flatten(1) - mean) @ vectors
    log_p = -0.5 * (projected.square() / model + model.log() + math.log(2 * math.pi)).sum(1)
    return log_p.mean().item()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VAE]:
    """Function `trained(latent_dim, *overrides)` that trains each model once."""

    @functools.cache
    def train(latent_dim: int, *overrides: str) -> VAE:
        folder = tmp_path_factory.mktemp("linear")
        done = forked("train.py", *LINEAR, f"model.latent_dim={latent_dim}", *overrides, f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
        return nelbo.load(folder).double()

    return train


@pytest.mark.parametrize("latent_dim", [8, *(pytest.param(size, marks=pytest.mark.slow) for size in (2, 16))])
def test_the_default_budget_reaches_probabilistic_pca(trained: Callable[..., VAE], latent_dim: int) -> None:
    vae = trained(latent_dim)
    train_images, test_images = pixels()
    with torch.no_grad():
        for x in (train_images, test_images):
            reconstruction, kl = elbo_terms(vae, x)
            exact = ppca_log_likelihood(train_images, x, latent_dim)
            assert abs(-(reconstruction + kl) - exact) < 0.3
    # On the training images the maximum likelihood is an upper bound of every ELBO.
    reconstruction, kl = elbo_terms(vae, train_images)
    assert -(reconstruction + kl) <= ppca_log_likelihood(train_images, train_images, latent_dim) + 1e-6


@pytest.mark.parametrize("beta", [1, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (0.5, 2))])
def test_rate_and_distortion_are_reverse_water_filling(trained: Callable[..., VAE], beta: float) -> None:
    """With the default learned sigma, whose optimum is the squared error per pixel, and the default beta = 1."""
    vae = trained(8, *([f"objective.beta={beta}"] if beta != 1 else []))
    train_images, _ = pixels()
    _, values, _ = spectrum(train_images)
    distortion, rate = water_filling(values, 8, beta, optimal_sigma2(values, 8, beta))
    with torch.no_grad():
        reconstruction, kl = elbo_terms(vae, train_images)
    assert abs(kl / rate - 1) < 0.05
    assert abs(reconstruction - distortion) < 0.5


def test_the_reference_agrees_with_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    train_images, test_images = (x.flatten(1).numpy() for x in pixels())
    pca = PCA(8, svd_solver="full").fit(train_images)
    ours = ppca_log_likelihood(*pixels(), 8)
    # scikit-learn divides the covariance by N - 1, which on 1,500 images is a difference of 0.01 nats.
    assert abs(pca.score(test_images) - ours) < 0.05
