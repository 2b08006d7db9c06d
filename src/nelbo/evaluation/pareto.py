"""The shape of the tail of importance weights, by which one judges whether their mean can be trusted.

Shapes: S samples, B batch, M samples in the tail, J candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nelbo.numerics.precision import finest

FEWEST = 100
"""Smallest number of importance samples whose tail can be judged."""

CANDIDATES, SPREAD = 30, 3.0
"""Zhang & Stephens 2009: there are 30 + sqrt(M) candidates, and 3 is a constant of their positions."""

PRIOR_SAMPLES, PRIOR_SHAPE = 10, 0.5
"""Vehtari et al. 2024: a weak prior, with the weight of 10 samples of shape 0.5."""


def tail_size(num_samples: int) -> int:
    """Return M = min(S / 5, 3 sqrt(S)), the number of weights in the tail (Vehtari et al. 2024, section 3.1)."""
    return math.ceil(min(0.2 * num_samples, 3 * math.sqrt(num_samples)))


def trusted_below(num_samples: int) -> float:
    """Return the largest shape for which S samples suffice, min(1 - 1 / log10 S, 0.7) (Vehtari et al. 2024, 3.2)."""
    return min(1 - 1 / math.log10(num_samples), 0.7)


def pareto_shape(largest: Tensor) -> Tensor:
    """Return k-hat, (B,), of a generalised Pareto distribution fitted to the excess of the M largest weights.

    The excess is the difference to the largest weight outside of the tail. Weights with k >= 1 have no mean and those
    with k >= 0.5 no variance. The estimator is that of Zhang & Stephens 2009 with the prior of Vehtari et al. 2024,
    "Pareto smoothed importance sampling". If all weights are equal, the result is 0.

    Args:
        largest: the M + 1 largest log-weights of each image, (M + 1, B), in descending order.
    """
    weights = (finest(largest) - finest(largest[0])).exp()
    excess = (weights[:-1] - weights[-1]).flip(0)  # ascending
    count = len(excess)
    quarter, largest_excess = excess[math.floor(count / 4 + 0.5) - 1], excess[-1]
    equal = ~(quarter > 0)
    quarter, largest_excess = quarter.masked_fill(equal, 1.0), largest_excess.masked_fill(equal, 1.0)
    number = CANDIDATES + math.floor(math.sqrt(count))
    places = torch.arange(1, number + 1, dtype=excess.dtype, device=excess.device).unsqueeze(-1)
    candidates = (1 - (number / (places - 0.5)).sqrt()) / (SPREAD * quarter) + 1 / largest_excess  # (J, B)
    shapes = torch.log1p(-candidates.unsqueeze(1) * excess).mean(dim=1)
    profile = count * ((-candidates / shapes).log() - shapes - 1)
    chosen = (candidates * profile.softmax(dim=0)).sum(dim=0)
    shape = torch.log1p(-chosen * excess).mean(dim=0)
    shape = (count * shape + PRIOR_SAMPLES * PRIOR_SHAPE) / (count + PRIOR_SAMPLES)
    return shape.masked_fill(equal, 0.0)
