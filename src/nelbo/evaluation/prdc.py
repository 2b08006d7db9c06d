"""Precision, recall, density and coverage of two sets of points, from balls that reach to the k-th neighbour.

Shapes: N real points, M generated points, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

ELEMENTS = 10_000_000
"""Largest number of distances in memory."""

ROUNDING = 1e-12
"""Squared distances that differ by less than this, relative to the largest squared norm, count as equal."""


class Overlap(NamedTuple):
    """How two sets of points overlap.

    Args:
        precision: share of the generated points that are in the ball of a real point.
        recall: share of the real points that are in the ball of a generated point.
        density: mean number of balls of real points that contain a generated point, divided by k; 1 in expectation if
            both sets have the same distribution.
        coverage: share of the real points whose ball contains a generated point.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, generated: Tensor, k: int) -> Overlap:
    """Compute precision, recall, density and coverage of generated points.

    Precision and recall are eq. 2 of Kynkaanniemi et al. 2019, density and coverage eqs. 4 and 5 of Naeem et al. 2020.

    The ball of a point reaches to its k-th neighbour in its own set and contains it. If the generated points are equal
    to the real points, the density is therefore (k + 1) / k; for independent points it makes no difference.

    Args:
        real: (N, F).
        generated: (M, F).
        k: number of the neighbour to which the ball of a point reaches.

    Raises:
        ValueError: if a set has k points or fewer.

    Example:
        >>> points = torch.arange(10.0).unsqueeze(1)
        >>> prdc(points, points + 100, k=2)
        Overlap(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(
            f"k={k} needs more than {k} points in each set, and there are {len(real)} and {len(generated)}"
        )
    center = real.double().mean(dim=0)  # differences of the squares of smaller numbers are more accurate
    real, generated = real.double() - center, generated.double() - center
    norms = torch.cat([real, generated]).square().sum(dim=1)
    rounding = ROUNDING * norms.max()
    real_radii, generated_radii = radii(real, k) + rounding, radii(generated, k) + rounding
    balls = torch.zeros(len(generated))
    recalled, covered = 0, 0
    for chunk, squared in squared_distances(real, generated):
        in_real = squared <= real_radii[chunk, None]
        balls += in_real.sum(dim=0)
        covered += int(in_real.any(dim=1).sum())
        recalled += int((squared <= generated_radii).any(dim=1).sum())
    return Overlap(
        precision=(balls > 0).double().mean().item(),
        recall=recalled / len(real),
        density=balls.double().mean().item() / k,
        coverage=covered / len(real),
    )


def radii(points: Tensor, k: int) -> Tensor:
    """Return the squared distance from each point (N, F) to its k-th nearest other point, (N,)."""
    # k + 1, because each point is its own nearest one.
    return torch.cat(
        [squared.topk(k + 1, largest=False).values[:, -1] for _, squared in squared_distances(points, points)]
    )


def squared_distances(rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield chunks of rows (N, F), with their squared distances from all columns (M, F): (rows of the chunk, M)."""
    size = max(1, ELEMENTS // len(columns))
    norms = columns.square().sum(dim=1)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        squared = torch.addmm(chunk.square().sum(dim=1, keepdim=True) + norms, chunk, columns.T, alpha=-2)
        yield slice(start, start + size), squared.clamp_(min=0)
