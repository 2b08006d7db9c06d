"""How far two sets of points cover each other, by the balls around each point that reach its k-th neighbour.

Shapes: N real points, M generated ones, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

ELEMENTS = 10_000_000
"""Distances that are held at once."""

ROUNDING = 1e-12
"""Squared distances in float64 that differ by less, in units of the largest squared norm, are the same."""


class Overlap(NamedTuple):
    """Shares of points, and a density that is 1 in expectation where both sets have one distribution.

    Args:
        precision: of the generated points, that lie in the ball of a real one.
        recall: of the real points, that lie in the ball of a generated one.
        density: in how many balls of real points a generated one lies, over k.
        coverage: of the real points, in whose ball a generated one lies.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, generated: Tensor, k: int) -> Overlap:
    """Precision and recall (Kynkaanniemi et al. 2019, eq. 2), density and coverage (Naeem et al. 2020, eqs. 4 and 5).

    A ball is closed: its k-th neighbour lies in it. Therefore the real points themselves, given as the generated ones,
    have density (k + 1) / k; for independent points it makes no difference.

    Args:
        real: (N, F).
        generated: (M, F).
        k: which neighbour of its own set a point's ball reaches to.

    Raises:
        ValueError: if a set has no more than k points.
    """
    if min(len(real), len(generated)) <= k:
        raise ValueError(f"{len(real)} and {len(generated)} points have no neighbour number {k}")
    center = real.double().mean(dim=0)  # small numbers: little is lost when their squares are subtracted
    real, generated = real.double() - center, generated.double() - center
    norms = torch.cat([real, generated]).square().sum(dim=1)
    rounding = ROUNDING * norms.max()
    real_radii, generated_radii = radii(real, k) + rounding, radii(generated, k) + rounding
    balls = torch.zeros(len(generated))
    recalled = covered = 0
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
    """The squared distance from each point (N, F) to its k-th nearest among the others, (N,)."""
    # One more than k, for each point is among its own nearest.
    return torch.cat(
        [squared.topk(k + 1, largest=False).values[:, -1] for _, squared in squared_distances(points, points)]
    )


def squared_distances(rows: Tensor, columns: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some rows (N, F) at a time, and their squared distances from all columns (M, F): (rows of the chunk, M)."""
    size = max(1, ELEMENTS // len(columns))
    norms = columns.square().sum(dim=1)
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        squared = torch.addmm(chunk.square().sum(dim=1, keepdim=True) + norms, chunk, columns.T, alpha=-2)
        yield slice(start, start + size), squared.clamp_(min=0)
