"""The exact optimum of a linear beta-VAE, Shannon's reverse water-filling, on the training images and on any others.

Let lambda be the eigenvalues of the covariance of the training images, theta = beta sigma^2 the water level, and t the
projection of x - mean on the eigenvector of a unit. The first D units with lambda > theta are active:
w^2 = lambda - theta and q(z|x) = N(w t / lambda, theta / lambda). The directions of all others are not coded, so their
variance remains as squared error.

Shapes: P pixels, D latent dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.theory.spectrum import Spectrum

STEPS = 10_000
"""Largest number of fixed-point steps in `learned_sigma2`."""

TOLERANCE = 1e-12
"""Relative change of sigma^2 at which the fixed-point iteration has converged."""


@dataclass(frozen=True)
class Optimum:
    """Rate, distortion and active units of a linear beta-VAE at its optimum.

    Args:
        rate: E KL(q(z|x) || p(z)), nats per image.
        error: E |x - E[x|z]|^2, summed over pixels.
        active: number of active units.
        distortion: E -log p(x|z), nats per image.
    """

    rate: float
    error: float
    active: int
    distortion: float


def optimum(spectrum: Spectrum, latent_dim: int, beta: float, sigma2: float) -> Optimum:
    """Compute the optimum on the training images, evaluated on the images of `spectrum.energy`.

    Args:
        spectrum: of the training images and the evaluated images.
        latent_dim: D.
        beta: weight of the KL, above 0.
        sigma2: variance of the likelihood, per pixel.

    Example:
        >>> values = torch.tensor([4.0, 1.0], dtype=torch.float64)
        >>> best = optimum(Spectrum(values, values), latent_dim=2, beta=2.0, sigma2=0.5)
        >>> best.active, best.error, round(best.rate, 4)  # the second eigenvalue is not above beta sigma2 = 1
        (1, 2.0, 0.6931)
    """
    theta = beta * sigma2
    on = torch.arange(len(spectrum.values)).lt(latent_dim) & spectrum.values.gt(theta)
    coded, energy = spectrum.values[on], spectrum.energy[on]
    rate = 0.5 * (theta / coded + (coded - theta) / coded**2 * energy - 1 + (coded / theta).log())
    error = theta**2 * energy / coded**2 + (coded - theta) * theta / coded
    total = float(error.sum() + spectrum.energy[~on].sum())
    return Optimum(float(rate.sum()), total, int(on.sum()), distortion(total, len(spectrum.values), sigma2))


def distortion(error: float, pixels: int, sigma2: float) -> float:
    """Return -log N(x; mean, sigma^2), in nats per image, for a squared error summed over P pixels."""
    return 0.5 * error / sigma2 + 0.5 * pixels * math.log(2 * math.pi * sigma2)


def squared_error(nats: float, pixels: int, sigma2: float) -> float:
    """Return the squared error, summed over P pixels, of a distortion in nats: the inverse of `distortion`."""
    return 2 * sigma2 * (nats - 0.5 * pixels * math.log(2 * math.pi * sigma2))


def learned_sigma2(values: Tensor, latent_dim: int, beta: float) -> float:
    """Compute the sigma^2 that a model learns: its own squared error per pixel on the training images, a fixed point.

    Args:
        values: eigenvalues, descending, (P,).
        latent_dim: D.
        beta: weight of the KL, above 0.
    """
    coded, rest = values[:latent_dim], float(values[latent_dim:].sum())
    sigma2 = float(values.mean())
    for _ in range(STEPS):
        update = (float(coded.clamp(max=beta * sigma2).sum()) + rest) / len(values)
        if abs(update - sigma2) <= TOLERANCE * sigma2:
            return update
        sigma2 = update
    return sigma2
