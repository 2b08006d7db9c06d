"""The exact answer of a linear beta-VAE: Shannon's reverse water-filling, on the training images and on any others.

With lambda the eigenvalues of the covariance of the training images and theta = beta sigma^2 the water level, the first
D units with lambda > theta are on: w^2 = lambda - theta and q(z|x) = N(w t / lambda, theta / lambda), t the projection
of x - mean on the unit's eigenvector. The others are off, and leave their variance as it is.

Shapes: P pixels, D latent dimensions, N images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_PIXELS = 4096
"""Beyond this the eigenvectors of a P x P matrix are no longer a matter of seconds."""

STEPS = 10_000
TOLERANCE = 1e-12
CHUNK = 10_000


@dataclass(frozen=True, eq=False)
class Spectrum:
    """What of the images the answer depends on.

    Args:
        values: eigenvalues of the covariance (divided by N) of the training images, descending, (P,).
        energy: mean squared projection of the images judged on each eigenvector, after the training mean is taken off,
            (P,). For the training images themselves it equals `values`.
    """

    values: Tensor
    energy: Tensor


@dataclass(frozen=True)
class Optimum:
    """Where a linear beta-VAE ends.

    Args:
        rate: E KL(q(z|x) || p(z)), nats per image.
        error: E |x - decoded z|^2, summed over pixels.
        active: how many units are on.
        distortion: E -log p(x|z), nats per image.
    """

    rate: float
    error: float
    active: int
    distortion: float


def spectrum(train: Tensor, judged: Tensor) -> Spectrum:
    """Eigenvalues of `train` (N, P), and the energy of `judged` (M, P) along its eigenvectors."""
    mean = train.mean(0, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(_second_moment(train, mean))
    energy = (vectors * (_second_moment(judged, mean) @ vectors)).sum(0)
    return Spectrum(values.flip(0).clamp(min=0), energy.flip(0).clamp(min=0))


def _second_moment(images: Tensor, mean: Tensor) -> Tensor:
    """E (x - mean)(x - mean)^T, (P, P), in float64, a chunk of images at a time."""
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in images.split(CHUNK):
        centred = chunk.double() - mean
        total += centred.T @ centred
    return total / len(images)


def optimum(found: Spectrum, latent_dim: int, beta: float, sigma2: float) -> Optimum:
    """The optimum on the images judged.

    Args:
        found: their spectrum.
        latent_dim: D.
        beta: the weight of the KL, above 0.
        sigma2: variance of the likelihood, per pixel.
    """
    theta = beta * sigma2
    on = torch.arange(len(found.values)).lt(latent_dim) & found.values.gt(theta)
    coded, energy = found.values[on], found.energy[on]
    rate = 0.5 * (theta / coded + (coded - theta) / coded**2 * energy - 1 + (coded / theta).log())
    error = theta**2 * energy / coded**2 + (coded - theta) * theta / coded
    total = float(error.sum() + found.energy[~on].sum())
    return Optimum(float(rate.sum()), total, int(on.sum()), distortion(total, len(found.values), sigma2))


def distortion(error: float, pixels: int, sigma2: float) -> float:
    """-log N(x; mean, sigma^2), nats per image, at a squared error summed over P pixels."""
    return 0.5 * error / sigma2 + 0.5 * pixels * math.log(2 * math.pi * sigma2)


def squared_error(nats: float, pixels: int, sigma2: float) -> float:
    """What `distortion` was made of."""
    return 2 * sigma2 * (nats - 0.5 * pixels * math.log(2 * math.pi * sigma2))


def learned_sigma2(values: Tensor, latent_dim: int, beta: float) -> float:
    """The sigma^2 that a model learns: its own squared error a pixel on the training images, a fixed point.

    Args:
        values: eigenvalues, descending, (P,).
        latent_dim: D.
        beta: the weight of the KL, above 0.
    """
    coded, rest = values[:latent_dim], float(values[latent_dim:].sum())
    sigma2 = float(values.mean())
    for _ in range(STEPS):
        update = (float(coded.clamp(max=beta * sigma2).sum()) + rest) / len(values)
        if abs(update - sigma2) <= TOLERANCE * sigma2:
            return update
        sigma2 = update
    return sigma2
