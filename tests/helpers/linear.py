"""Linear VAEs and their optima in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nelbo.data import digits
from nelbo.distributions import DiagonalNormal
from nelbo.models import VAE

LINEAR = ("model=linear_vae", "data=digits", "data.validation_size=0", "callbacks=none", "logger=none")


def pixels() -> tuple[Tensor, Tensor]:
    """Return training and test images of the digits, (N, 1, 8, 8), float64 in [0, 1]."""
    arrays = digits()
    return arrays.train.images.double() / 255, arrays.test.images.double() / 255


def spectrum(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, eigenvalues (descending) and eigenvectors of the covariance of images."""
    flat = x.flatten(1)
    values, vectors = torch.linalg.eigh(torch.cov(flat.T, correction=0))
    return flat.mean(0), values.flip(0), vectors.flip(1)


def elbo_terms(vae: VAE, x: Tensor) -> tuple[float, float]:
    """Return reconstruction and KL in nats, without Monte Carlo noise.

    The mean over the points mu +- sqrt(D) s e_i is exact, because log p(x|z) is quadratic in z.
    """
    q = vae.encode(x)
    assert isinstance(q, DiagonalNormal)
    steps = math.sqrt(vae.latent_dim) * torch.eye(vae.latent_dim, dtype=x.dtype)
    points = q.loc + torch.cat([steps, -steps]).unsqueeze(1) * q.scale
    reconstruction = -vae.decode(points).log_prob(x).mean()
    kl = 0.5 * (q.loc.square() + q.scale.square() - 1 - 2 * q.scale.log()).sum(1).mean()
    return reconstruction.item(), kl.item()


def water_filling(values: Tensor, latent_dim: int, beta: float, sigma2: float) -> tuple[float, float]:
    """Return distortion and rate in nats at the optimum of a linear beta-VAE with a given sigma^2.

    Shannon's reverse water-filling with theta = beta sigma^2: a unit whose eigenvalue exceeds theta has a rate of
    1/2 log(eigenvalue / theta) and a squared error of theta; the others have rate 0 and their eigenvalue as error.
    """
    theta = beta * sigma2
    coded = values[:latent_dim].clamp(min=theta)
    rate = 0.5 * (coded / theta).log().sum().item()
    error = (values[:latent_dim].clamp(max=theta).sum() + values[latent_dim:].sum()).item()
    return 0.5 * error / sigma2 + 0.5 * len(values) * math.log(2 * math.pi * sigma2), rate


def optimal_sigma2(values: Tensor, latent_dim: int, beta: float) -> float:
    """Return the optimal sigma^2, which equals the squared error per pixel, by fixed-point iteration."""
    sigma2 = values.mean().item() / 10
    for _ in range(10_000):
        error = values[:latent_dim].clamp(max=beta * sigma2).sum() + values[latent_dim:].sum()
        sigma2 = error.item() / len(values)
    return sigma2
