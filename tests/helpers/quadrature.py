"""Numerical integration over two scalar latents: exact likelihoods and posterior means of nonlinear models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LogDensity = Callable[[Tensor, Tensor], Tensor]
"""A function of z_1 and z_2, (n,) each, that returns (n,), or (B, n) for several images."""

DEPTH = 45.0
"""Nats below its maximum at which a density counts as 0."""
COARSE = 201
"""Points of an axis of the grid that finds where the density is."""
LARGEST_GRID = 2048
"""Most intervals of an axis."""
LARGEST_BOX = 2.0**20


@dataclass(frozen=True)
class ScalarPosterior:
    """The posterior of two scalar latents on a grid.

    Args:
        log_evidence: log p(x) in nats, () or (B,).
        z1, z2: points of the grid, (n,) each, float64.
        weights: probabilities of the points, (n,) or (B, n), which sum to 1.
    """

    log_evidence: Tensor
    z1: Tensor
    z2: Tensor
    weights: Tensor

    def mean(self, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return E[function(z_1, z_2) | x], () or (B,)."""
        return (self.weights * function(self.z1, self.z2)).sum(-1)


def integrate(log_prior: LogDensity, log_likelihood: LogDensity, tolerance: float = 1e-10) -> ScalarPosterior:
    """Integrate exp(log_prior + log_likelihood) over the plane, with the trapezoidal rule.

    For smooth densities with tails that are at least exponential, which are cut off at e^-45 of their maximum, the
    error of this rule falls exponentially in the number of points. The intervals are halved until log p(x) of all
    images changes by less than the tolerance, twice in a row.

    Args:
        log_prior: log p(z_1, z_2) in nats, (n,) for z_1 and z_2 of shape (n,), float64.
        log_likelihood: log p(x | z_1, z_2) in nats, (n,), or (B, n) for several images.
        tolerance: in nats.

    Raises:
        ArithmeticError: if the density has no bounded region that holds all of it, or if the grid would have to be
            finer than 2,048 intervals, as for a density with kinks or with a very narrow ridge.
    """

    def log_joint(z1: Tensor, z2: Tensor) -> Tensor:
        return log_prior(z1, z2) + log_likelihood(z1, z2)

    low, high = _box(log_joint)
    previous, agreed, intervals = torch.tensor(torch.nan), 0, 64
    while intervals <= LARGEST_GRID:
        z1, z2 = _grid(low, high, intervals + 1)
        log_area = ((high - low) / intervals).log().sum()
        values = log_joint(z1, z2)
        log_evidence = values.logsumexp(-1) + log_area
        agreed = agreed + 1 if bool(((log_evidence - previous).abs() < tolerance).all()) else 0
        if agreed == 2:
            weights = (values + log_area - log_evidence.unsqueeze(-1)).exp()
            return ScalarPosterior(log_evidence, z1, z2, weights)
        previous, intervals = log_evidence, 2 * intervals
    raise ArithmeticError(f"log p(x) still changes by more than {tolerance:g} nats at {LARGEST_GRID} intervals")


def _grid(low: Tensor, high: Tensor, points: int) -> tuple[Tensor, Tensor]:
    axes = [torch.linspace(a, b, points, dtype=torch.float64) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    z1, z2 = torch.meshgrid(*axes, indexing="ij")
    return z1.flatten(), z2.flatten()


def _box(log_joint: LogDensity) -> tuple[Tensor, Tensor]:
    """Return the lower and the upper corner, (2,) each, of a rectangle outside of which the density is negligible."""
    high = torch.full((2,), 8.0, dtype=torch.float64)
    low = -high
    while True:
        inner_low, inner_high, inside = _support(log_joint, low, high)
        if not inside:
            low, high = 2 * low, 2 * high
            if high.max() > LARGEST_BOX:
                raise ArithmeticError("the density is not negligible at the boundary of any rectangle")
        elif bool((inner_high - inner_low < 0.8 * (high - low)).any()):
            low, high = inner_low, inner_high
        else:
            return low, high


def _support(log_joint: LogDensity, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Return the bounding box of where the density of any image is above e^-45 of its maximum, and one cell more.

    Also returns whether the boundary of the rectangle is outside of it.
    """
    z1, z2 = _grid(low, high, COARSE)
    values = log_joint(z1, z2)
    inside = values > values.amax(-1, keepdim=True) - DEPTH
    points = torch.stack([z1, z2])[:, inside.reshape(-1, len(z1)).any(0)]
    cell = (high - low) / (COARSE - 1)
    first, last = points.amin(1), points.amax(1)
    return first - cell, last + cell, bool(((first > low) & (last < high)).all())
