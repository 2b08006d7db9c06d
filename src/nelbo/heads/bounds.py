"""Smooth bounds: a saturated parameter keeps its gradient, and nothing overflows."""

from __future__ import annotations

import torch
from torch import Tensor

START = 0.9
"""Starting values lie within this share of what bounds them, where a bound still passes on a fifth of a gradient."""


def soft_bound(value: Tensor, bound: float) -> Tensor:
    """`value` kept within (-bound, bound), the identity near 0."""
    return bound * torch.tanh(value / bound)


def before_bound(value: Tensor, bound: float) -> Tensor:
    """What `soft_bound` makes into `value`, or into `START * bound` where that is smaller in size."""
    return bound * torch.atanh((value / bound).clamp(-START, START))
