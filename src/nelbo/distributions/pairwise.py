"""The log-density of every point under every one of several distributions.

Shapes: N points, any leading shape in place of it; K distributions, D dimensions.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions.normal import DiagonalNormal, FullNormal
from nelbo.distributions.one_hot import OneHots
from nelbo.numerics.precision import finest

ELEMENTS = 1 << 22
"""Number of elements of a tensor (points, distributions, D) above which points are split into several solves."""

LOG_SQRT_TWO_PI = 0.5 * math.log(2 * math.pi)
"""Minus the log-density of N(0, 1) at 0, in nats."""


@singledispatch
def log_densities(q: Distribution, z: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """Return log w_k + log q_k(z_n) of all pairs, (..., K), in nats.

    For Gaussians and one-hot codes it is in float64, if the device has it. Diagonal Gaussians and codes are matrix
    products, without a tensor (..., K, D). For diagonal Gaussians these cancel where z and all means are far from 0
    compared with the scales; the result is invariant to a shift of both. A full Gaussian takes one triangular solve for
    all points, so that no factor is copied for a pair.

    Args:
        q: K distributions, batch shape (K,).
        z: points, (..., *event) with event (D,), (C, h, w) or (N, K).
        log_weights: log w_k, (K,); None for 0.
    """
    log_q: Tensor = q.log_prob(z.unsqueeze(-1 - len(q.event_shape)))
    return _weighted(log_q, log_weights)


@log_densities.register
def _(q: DiagonalNormal, z: Tensor, log_weights: Tensor | None = None) -> Tensor:
    event = len(q.event_shape)
    value, loc, scale = finest(z).flatten(-event), finest(q.loc).flatten(1), finest(q.scale).flatten(1)
    if value.dtype != torch.float64:
        return _weighted(q.log_prob(z.unsqueeze(-1 - event)), log_weights)  # type: ignore[no-untyped-call]
    precision = scale.reciprocal().square()
    constant = _weighted(-(scale.log() + LOG_SQRT_TWO_PI).sum(-1), log_weights)
    # Each pair occurs in the two products alone; everything else is added to the first one in place.
    squares = (value.square() @ precision.T).sub_((2 * value) @ (loc * precision).T)
    return squares.add_((loc.square() * precision).sum(-1)).mul_(-0.5).add_(constant)


@log_densities.register
def _(q: FullNormal, z: Tensor, log_weights: Tensor | None = None) -> Tensor:
    exact = FullNormal(finest(q.loc), finest(q.scale_tril))
    points = finest(z).reshape(-1, 1, z.shape[-1])
    parts = [exact.log_prob(part) for part in points.split(max(1, ELEMENTS // max(1, q.loc.numel())))]
    return _weighted(torch.cat(parts).reshape(*z.shape[:-1], len(q.loc)), log_weights)


@log_densities.register
def _(q: OneHots, z: Tensor, log_weights: Tensor | None = None) -> Tensor:
    return _weighted(finest(z.flatten(-2)) @ finest(q.logits.flatten(1)).T, log_weights)


def _weighted(log_q: Tensor, log_weights: Tensor | None) -> Tensor:
    return log_q if log_weights is None else log_weights.to(log_q.dtype) + log_q
