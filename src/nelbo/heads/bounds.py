"""Smooth bounds: a saturated parameter keeps its gradient, and nothing overflows."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_bound(value: Tensor, bound: float) -> Tensor:
    """`value` kept within (-bound, bound), the identity near 0."""
    return bound * torch.tanh(value / bound)
