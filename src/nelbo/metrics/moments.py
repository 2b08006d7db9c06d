"""Numerically stable, mergeable covariances of pairs of values (Chan, Golub & LeVeque 1983).

The sum of squares minus the square of the sum cancels when means are large. A part of the data is therefore stored as
its size, its two means and the sum of the products of the deviations from them; two parts merge into one.

Shapes: N pairs, U units, P parts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moments(first: Tensor, second: Tensor) -> Tensor:
    """Return size, both means and the sum of the products of deviations, (4, U), of pairs of values (N, U)."""
    means = first.mean(dim=0), second.mean(dim=0)
    products = ((first - means[0]) * (second - means[1])).sum(dim=0)
    return torch.stack([torch.full_like(products, len(first)), *means, products])


def merged(parts: Tensor) -> Tensor:
    """Merge the moments of several parts, (P, 4, U), into those of all pairs, (4, U); empty parts are ignored."""
    total = parts[0]
    for part in parts[1:]:
        size = total[0] + part[0]
        share = part[0] / size.clamp(min=1)
        distance = part[1:3] - total[1:3]
        products = total[3] + part[3] + distance[0] * distance[1] * total[0] * share
        total = torch.stack([size, *(total[1:3] + distance * share), products])
    return total


def covariance(moments: Tensor) -> Tensor:
    """Return the covariance, (U,), of moments (4, U)."""
    return moments[3] / moments[0]
