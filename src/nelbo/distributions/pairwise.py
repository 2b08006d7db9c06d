"""The log-density of every point, or of its first units, under every one of several distributions.

Shapes: N points, any leading shape in place of it; K distributions, D dimensions.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

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


@singledispatch
def first_log_densities(q: Distribution, z: Tensor, mask: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """Return log w_k + the log-density of the first units of z_n under those of q_k, (..., K), in nats.

    As `log_densities`, for all pairs. The parameters of the K distributions are shared by all points, however many
    units each of them has: for diagonal Gaussians these are matrix products, and a full Gaussian takes one triangular
    solve, because the first units of L^-1 (z - loc) do not depend on those after them.

    Args:
        q: K distributions over vectors, batch shape (K,), with independent units or full Gaussians.
        z: points, (..., D).
        mask: 1 for the first units of a point and 0 for those beyond, broadcasts with z.
        log_weights: log w_k, (K,); None for 0.

    Raises:
        NotImplementedError: for distributions whose first units have no marginal in closed form, as those of a flow.
    """
    raise NotImplementedError(f"the first units of {type(q).__name__} have no marginal in closed form")


@first_log_densities.register(Independent)
def _(q: Independent[Distribution], z: Tensor, mask: Tensor, log_weights: Tensor | None = None) -> Tensor:
    units: Tensor = q.base_dist.log_prob(z.unsqueeze(-2))
    return _weighted((units * mask.unsqueeze(-2)).sum(-1), log_weights)


@first_log_densities.register
def _(q: DiagonalNormal, z: Tensor, mask: Tensor, log_weights: Tensor | None = None) -> Tensor:
    kept, loc, scale = finest(mask), finest(q.loc), finest(q.scale)
    if kept.dtype != torch.float64:
        return first_log_densities.dispatch(Independent)(q, z, mask, log_weights)
    value, precision = finest(z) * kept, scale.reciprocal().square()
    constant = _weighted(kept @ (-0.5 * loc.square() * precision - scale.log() - LOG_SQRT_TWO_PI).T, log_weights)
    squares = (value.square() @ precision.T).sub_((2 * value) @ (loc * precision).T)
    return squares.mul_(-0.5).add_(constant)


@first_log_densities.register
def _(q: FullNormal, z: Tensor, mask: Tensor, log_weights: Tensor | None = None) -> Tensor:
    exact = FullNormal(finest(q.loc), finest(q.scale_tril))
    points, kept = (part.reshape(-1, z.shape[-1]) for part in torch.broadcast_tensors(finest(z), finest(mask)))
    size = max(1, ELEMENTS // max(1, q.loc.numel()))
    squares = [
        (exact.standardized(some.unsqueeze(1)).square() @ units.unsqueeze(-1)).squeeze(-1)
        for some, units in zip(points.split(size), kept.split(size), strict=True)
    ]
    constant = kept @ (-exact.scale_tril.diagonal(dim1=-2, dim2=-1).log() - LOG_SQRT_TWO_PI).T
    pairs = torch.cat(squares).mul_(-0.5).add_(constant)
    return _weighted(pairs.reshape(*torch.broadcast_shapes(z.shape, mask.shape)[:-1], len(q.loc)), log_weights)


def _weighted(log_q: Tensor, log_weights: Tensor | None) -> Tensor:
    return log_q if log_weights is None else log_weights.to(log_q.dtype) + log_q
