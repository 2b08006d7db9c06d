"""Spectra: how much images vary along the eigenvectors of the covariance of the training images.

Shapes: N training images, M other images, P pixels, K directions. Everything is in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_PIXELS = 4096
"""Largest P for which `spectrum` is meant: the eigenvectors of a larger P x P matrix take minutes."""

CHUNK = 10_000
"""Images whose products are summed in one step."""

PASSES = 4
"""Products with the covariance in a randomised subspace iteration."""

STANDARD_ERRORS = 2.0
"""Standard errors by which held-out images must contradict the training images before they are believed."""

Covariance = Callable[[Tensor | None], tuple[Tensor, Tensor]]
"""A function that returns the mean of images (P,) and, given None, their covariance (P, P) or, given columns (P, K),
the product of the covariance with them (P, K)."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """All P eigenvalues of the training images, and the mean energy of evaluated images along each eigenvector.

    The optimum of a linear model depends on images through these numbers alone. See `LeadingSpectrum` for fewer
    directions with the energy of every single image.

    Args:
        values: eigenvalues of the covariance (divided by N) of the training images, descending, (P,).
        energy: squared projection of the evaluated images, minus the training mean, on each eigenvector, averaged over
            these images, (P,). For the training images themselves it equals `values`.
    """

    values: Tensor
    energy: Tensor


@dataclass(frozen=True, eq=False)
class LeadingSpectrum:
    """The K largest eigenvalues of the training images, and the energy of each held-out image along the eigenvectors.

    Args:
        values: eigenvalues of the covariance (divided by N) of the training images, descending, (K,).
        energies: squared projections of the held-out images, minus the training mean, on the eigenvectors, (M, K).
        is_whole: whether K = P, so that no direction is missing.
    """

    values: Tensor
    energies: Tensor
    is_whole: bool


def spectrum(train: Tensor, evaluated: Tensor) -> Spectrum:
    """Compute the spectrum of images in memory.

    Args:
        train: training images, (N, P).
        evaluated: images whose energy is measured, (M, P).
    """
    mean = train.mean(0, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(_second_moment(train, mean))
    energy = (vectors * (_second_moment(evaluated, mean) @ vectors)).sum(0)
    return Spectrum(values.flip(0).clamp(min=0), energy.flip(0).clamp(min=0))


def _second_moment(images: Tensor, mean: Tensor) -> Tensor:
    """Return E (x - mean)(x - mean)^T, (P, P), summed over one chunk of images after the other."""
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in images.split(CHUNK):
        centred = chunk.double() - mean
        total += centred.T @ centred
    return total / len(images)


def principal_directions(covariance: Covariance, start: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean of images (P,), and eigenvalues (K,), descending, and eigenvectors (P, K) of their covariance.

    Without `start` they are exact and K = P. With it they are the K leading ones by randomised subspace iteration
    (Halko et al. 2011), which never holds a P x P matrix; an approximate eigenvalue is at most as large as the exact
    one of the same rank.

    Args:
        covariance: returns the mean and the covariance, or the product of the covariance with given columns.
        start: random columns, (P, K), from which the iteration starts.
    """
    if start is None:
        mean, small = covariance(None)
        basis = torch.eye(len(mean), dtype=torch.float64)
    else:
        basis = torch.linalg.qr(start).Q
        for _ in range(PASSES - 1):
            basis = torch.linalg.qr(covariance(basis)[1]).Q
        mean, image = covariance(basis)
        small = basis.T @ image
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    return mean, values.flip(0).clamp(min=0), (basis @ vectors).flip(1)


def units_worth_it(spectrum: LeadingSpectrum, level: float) -> int:
    """Return how many leading directions are each worth a latent unit, on held-out images too.

    On the training images a direction is worth a unit if its eigenvalue is above the water level, lambda > theta. With
    few images the largest of many eigenvalues are large by chance, and such a unit costs more than it saves on other
    images. A unit changes 2 sigma^2 (reconstruction + beta KL) of an image with energy e along its direction by
    theta log(lambda / theta) - e (1 - theta / lambda), which is negative on average if the mean of e is lambda.

    The number of units with the smallest loss on the held-out images is therefore the lower limit. Further units above
    the level are counted as long as they increase that loss by no more than two standard errors, so that held-out
    images overrule the training images only where the difference is significant.

    Args:
        spectrum: of the training images and the held-out images.
        level: theta = beta sigma^2, above 0.

    Example:
        >>> values = torch.tensor([4.0, 1.0, 0.1], dtype=torch.float64)
        >>> units_worth_it(LeadingSpectrum(values, values.expand(100, 3), is_whole=True), level=0.5)
        2
    """
    above = int((spectrum.values > level).sum())
    eigenvalues = spectrum.values[:above]
    gains = spectrum.energies[:, :above] * (1 - level / eigenvalues) - level * (eigenvalues / level).log()
    total = torch.cat([gains.new_zeros(len(gains), 1), gains.cumsum(dim=1)], dim=1)
    best = int(total.mean(dim=0).argmax())
    if best == above:
        return best
    lost = total[:, best : best + 1] - total[:, best + 1 :]
    refuted = lost.mean(dim=0) > STANDARD_ERRORS * lost.std(dim=0) / math.sqrt(len(lost))
    return best + int((~refuted).cumprod(dim=0).sum())
