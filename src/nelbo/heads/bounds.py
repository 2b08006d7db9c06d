"""Smooth bounds of parameters, which prevent overflow and keep a gradient near the bound, and positive scales."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

START = 0.9
"""The fraction of the bound within which initial values lie; there the derivative of the bound is about 1/5."""


def soft_bound(value: Tensor, bound: float) -> Tensor:
    """Return bound * tanh(value / bound): in (-bound, bound), and close to `value` near 0.

    Example:
        >>> soft_bound(torch.tensor([0.1, 5.0, 100.0]), 10.0)
        tensor([ 0.1000,  4.6212, 10.0000])
    """
    return bound * torch.tanh(value / bound)


def inverse_soft_bound(value: Tensor, bound: float) -> Tensor:
    """Return the argument for which `soft_bound` is `value`, after clamping `value` to +-`START * bound`."""
    return bound * torch.atanh((value / bound).clamp(-START, START))


POSITIVE_FLOOR = 1e-3
"""The least value of `positive_scale`."""

LOG_TWO = 0.6931471805599453


def positive_scale(raw: Tensor) -> Tensor:
    """Return the softplus with beta = ln 2, which is 1 at 0, plus `POSITIVE_FLOOR`.

    It grows linearly, where an exponential scale grows so fast that training is unstable (Hazami et al. 2022,
    "Efficient-VDVAE: Less is more", section 4.1).

    Example:
        >>> positive_scale(torch.tensor([0.0]))
        tensor([1.0010])
    """
    return functional.softplus(raw, beta=LOG_TWO) + POSITIVE_FLOOR
