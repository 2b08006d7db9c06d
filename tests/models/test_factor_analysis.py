"""A linear VAE with one sigma per pixel against scikit-learn's factor analysis of the same images.

Shapes: N examples, P pixels, D latent dimensions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import MultivariateNormal

import nelbo
from nelbo.models import VAE
from tests.helpers.forks import Train
from tests.helpers.linear import elbo_terms

Array = NDArray[np.float64]
SIDE, FACTORS = 8, 4
SIGNAL_TO_NOISE = (16, 8, 4, 2)
"""Eigenvalues of W^T Psi^-1 W; they are distinct, so that the axes are identifiable."""
BUDGET = ("optimizer.lr=0.02", "optimizer.betas=[0.9,0.95]", "objective.num_samples=4", "trainer.max_epochs=300")
"""4,800 steps of 256 images."""


def draw(path: Path) -> tuple[Array, Array]:
    """Write 4,000 training and 1,000 test images of a factor analysis model, and return them as (N, P) in [0, 1]."""
    random = np.random.default_rng(0)
    pixels = SIDE * SIDE
    sigma = np.exp(random.uniform(np.log(0.03), np.log(0.1), pixels))
    axes = np.linalg.qr(random.standard_normal((pixels, FACTORS)))[0]
    loadings = sigma[:, None] * axes * np.sqrt(SIGNAL_TO_NOISE)
    mean = random.uniform(0.4, 0.6, pixels)

    def images(count: int) -> NDArray[np.uint8]:
        signal = random.standard_normal((count, FACTORS)) @ loadings.T
        x = mean + signal + sigma * random.standard_normal((count, pixels))
        return np.round(255 * x.clip(0, 1)).astype(np.uint8).reshape(count, SIDE, SIDE)

    train, test = images(4000), images(1000)
    np.savez(path, train_images=train, test_images=test)
    return train.reshape(len(train), -1) / 255, test.reshape(len(test), -1) / 255


@torch.no_grad()
def parameters(vae: VAE) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (P,), loadings W (P, D) and noise variances psi (P,) of p(x) = N(mean, W W^T + diag(psi))."""
    units = torch.cat([torch.zeros(1, vae.latent_dim), torch.eye(vae.latent_dim)]).double()
    px = vae.decode(units)
    mean, *columns = px.mean.flatten(1)
    return mean, torch.stack(columns, 1) - mean.unsqueeze(1), px.variance[0].flatten()


@pytest.mark.slow
def test_a_linear_vae_with_one_sigma_per_pixel_is_factor_analysis(train: Train, tmp_path: Path) -> None:
    from sklearn.decomposition import PCA, FactorAnalysis

    path = tmp_path / "images.npz"
    sets = draw(path)
    reference = FactorAnalysis(FACTORS, svd_method="lapack", tol=1e-8, max_iter=10_000).fit(sets[0])
    pca = PCA(FACTORS, svd_solver="full").fit(sets[0])
    done = train(
        "model=linear_vae", "likelihood=gaussian_per_pixel", "data=arrays", f"data.path={path}", "threads=1",
        "data.validation_size=0", f"model.latent_dim={FACTORS}", "callbacks=none", "logger=none", *BUDGET,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    vae = nelbo.load(tmp_path / "run").double()
    mean, loadings, psi = parameters(vae)
    covariance = loadings @ loadings.T + psi.diag()
    for x in sets:
        images = torch.from_numpy(x)
        exact = MultivariateNormal(mean, covariance).log_prob(images).mean().item()
        with torch.no_grad():
            elbo = -sum(elbo_terms(vae, images.reshape(-1, 1, SIDE, SIDE)))
        best = reference.score(x)
        assert elbo <= exact + 1e-6
        assert abs(exact - best) < 0.05 and abs(elbo - best) < 0.1
        # A single sigma for all pixels is a different model with a much lower likelihood.
        assert pca.score(x) < best - 5
    ratio = psi.numpy() / reference.noise_variance_
    assert np.abs(ratio - 1).mean() < 0.02 and np.abs(ratio - 1).max() < 0.1
    assert np.linalg.norm(covariance.numpy() - reference.get_covariance()) < 0.12 * np.linalg.norm(covariance.numpy())
    assert np.abs(mean.numpy() - reference.mean_).max() < 0.002
    # The subspaces, in units of the noise: cosines of the principal angles.
    both = (loadings.numpy(), reference.components_.T)
    bases = [np.linalg.qr(columns / np.sqrt(reference.noise_variance_)[:, None])[0] for columns in both]
    assert np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).min() == pytest.approx(1, abs=0.01)
    # All rotations of W have the same likelihood; a diagonal q selects the one in which W^T Psi^-1 W is diagonal.
    precision = (loadings.T @ (loadings / psi.unsqueeze(1))).numpy()
    scaled = precision / np.sqrt(np.outer(precision.diagonal(), precision.diagonal()))
    assert np.abs(scaled - np.eye(FACTORS)).max() < 0.1
