"""Moments of pairs of numbers that are added up without cancelling (Chan, Golub & LeVeque 1983).

A sum of squares less the square of a sum loses all its digits where means are large. Here a part is its size, its two
means, and the sum of the products of the deviations from them; two parts make one of the same kind.

Shapes: N pairs, U units, P parts.
"""

from __future__ import annotations

import torch
from torch import Tensor


def moments(first: Tensor, second: Tensor) -> Tensor:
    """Size, both means and the sum of products of deviations, (4, U), of pairs (N, U)."""
    means = first.mean(dim=0), second.mean(dim=0)
    products = ((first - means[0]) * (second - means[1])).sum(dim=0)
    return torch.stack([torch.full_like(products, len(first)), *means, products])


def merged(parts: Tensor) -> Tensor:
    """The moments (4, U) of all pairs of several parts (P, 4, U); parts without pairs count as nothing."""
    total = parts[0]
    for part in parts[1:]:
        size = total[0] + part[0]
        share = part[0] / size.clamp(min=1)
        distance = part[1:3] - total[1:3]
        products = total[3] + part[3] + distance[0] * distance[1] * total[0] * share
        total = torch.stack([size, *(total[1:3] + distance * share), products])
    return total


def covariance(moments: Tensor) -> Tensor:
    """The mean product of deviations, (U,)."""
    return moments[3] / moments[0]
