"""What z says about x: the mutual information of images and their codes, from densities of codes under all q(z|x).

Shapes: N images with one q(z|x) each, B of them at a time, M codes, S samples an image, D latent dimensions.
Everything is in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution
from torchmetrics.utilities import dim_zero_cat

from nelbo.distributions import DiagonalNormal, FullNormal, OneHots
from nelbo.metrics.base import TraceMetric
from nelbo.numerics.precision import finest
from nelbo.trace import Trace

ELEMENTS = 2**23
"""No tensor of codes x distributions x D has more; products of matrices make none of that size."""

COLUMNS = 1000


@singledispatch
def log_densities(q: Distribution, z: Tensor) -> Tensor:
    """Log q_b(z_m), (M, B), of codes z (M, D) or (M, N, K) under each of the distributions q, batch shape (B,)."""
    log_q: Tensor = q.log_prob(z.unsqueeze(1))
    return log_q


@log_densities.register
def _(q: DiagonalNormal, z: Tensor) -> Tensor:
    # |z - m|^2 / s^2 multiplied out is a product of matrices. It cancels, so it is in float64 and about the mean of m.
    middle = finest(q.loc).mean(dim=0)
    code, loc, scale = finest(z) - middle, finest(q.loc) - middle, finest(q.scale)
    if code.dtype != torch.float64:
        return q.log_prob(z.unsqueeze(1))  # type: ignore[no-any-return, no-untyped-call]
    precision = scale.square().reciprocal()
    constant = -0.5 * (loc.square() * precision).sum(-1) - (scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    terms = torch.cat([code.square(), code], dim=-1)
    return torch.addmm(constant, terms, torch.cat([-0.5 * precision, loc * precision], dim=-1).T)


@log_densities.register
def _(q: FullNormal, z: Tensor) -> Tensor:
    # One triangular solve a distribution for all codes: no factor is copied for each pair.
    factor, distance = finest(q.scale_tril), finest(z) - finest(q.loc).unsqueeze(1)
    e = torch.linalg.solve_triangular(factor, distance.mT, upper=False)
    log_scale = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_q: Tensor = (-0.5 * e.square().sum(1) - log_scale.unsqueeze(1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)).T
    return log_q


@log_densities.register
def _(q: OneHots, z: Tensor) -> Tensor:
    return finest(z.flatten(1)) @ finest(q.logits.flatten(1)).T


def sums(q: Distribution, z: Tensor, own: Tensor) -> Tensor:
    """Log q(z_m) of each code under its own image's q, and the log of the sum under all others, (2, M).

    Over parts of the N distributions they add up: `logaddexp` of two parts is that of both together.

    Args:
        q: batch shape (B,), some of the N.
        z: (M, D).
        own: (M,), where among the B that one stands from which the code came; anything else where it is not there.
    """
    size = q.batch_shape[0]
    chunk = max(1, ELEMENTS // (size * z[0].numel()))
    parts = []
    for codes, places in zip(z.split(chunk), own.split(chunk), strict=True):
        parts.append(own_and_others(finest(log_densities(q, codes)), places))
    return torch.cat(parts, dim=1)


def own_and_others(log_q: Tensor, own: Tensor) -> Tensor:
    """Of log densities (..., M, B), which it overwrites, those under the own one, and the log of the sum of the others.

    Both (2, ..., M); see `sums`.
    """
    row = ((own >= 0) & (own < log_q.shape[-1])).nonzero().squeeze(1)
    mine = torch.full_like(log_q[..., 0], -math.inf)
    mine[..., row] = log_q[..., row, own[row]]
    log_q[..., row, own[row]] = -math.inf
    return torch.stack([mine, log_q.logsumexp(dim=-1)])


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates of I(x; z), one for each code, whose means they are; and what they are made of.

    Args:
        own: log q(z_m|x_m), (M,).
        others: log of the sum of q(z_m|x_n) over n != m, (M,).
        images: N.
    """

    own: Tensor
    others: Tensor
    images: int

    @property
    def log_aggregate(self) -> Tensor:
        """Log q(z) = log 1/N sum over n of q(z|x_n), (M,): the aggregate posterior of these images."""
        return torch.logaddexp(self.own, self.others) - math.log(self.images)

    @property
    def lower(self) -> Tensor:
        """Log q(z_m|x_m) - log q(z_m), (M,): in expectation the I_q(x; z) of the N images (Hoffman & Johnson 2016).

        At most log N; for images yet unseen a lower bound, InfoNCE with the best critic (Poole et al. 2019, "structured
        bounds with tractable encoders").
        """
        return self.own - self.log_aggregate

    @property
    def upper(self) -> Tensor:
        """Log q(z_m|x_m) - log 1/(N - 1) sum over n != m of q(z_m|x_n), (M,): an upper bound, leave-one-out (there)."""
        return self.own - self.others + math.log(self.images - 1)


class MutualInformation(TraceMetric):
    """I_q(x; z) of the images seen, in nats; see `Estimates.lower`. For Gaussian q with independent units.

    Every code meets every q(z|x), so the states are no sums but q's parameters and the codes of all images, joined.
    """

    loc: list[Tensor]
    scale: list[Tensor]
    z: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("loc", "scale", "z"):
            self.add_state(state, [], dist_reduce_fx="cat")

    @staticmethod
    def applies(trace: Trace) -> bool:
        """One level, with a `DiagonalNormal` q that depends on x alone."""
        (latent, *more) = trace.latents
        return not more and isinstance(latent.q, DiagonalNormal) and len(latent.q.batch_shape) < 2

    def update(self, trace: Trace) -> None:
        """Keep the examples of a trace."""
        (latent,) = trace.latents
        assert isinstance(latent.q, DiagonalNormal)
        self.loc.append(latent.over_examples(latent.q.loc).detach())
        self.scale.append(latent.over_examples(latent.q.scale).detach())
        self.z.append(latent.z.detach().transpose(0, 1))

    def compute(self) -> Tensor:
        """The mean over examples and samples."""
        loc, scale, z = dim_zero_cat(self.loc), dim_zero_cat(self.scale), dim_zero_cat(self.z)
        own = torch.arange(len(z), device=z.device).repeat_interleave(z.shape[1])
        total = finest(z.new_full((2, len(own)), -math.inf))
        for start in range(0, len(loc), COLUMNS):
            part = slice(start, start + COLUMNS)
            q = DiagonalNormal(loc[part], scale[part])
            total = torch.logaddexp(total, sums(q, z.flatten(0, 1), own - start))
        return Estimates(total[0], total[1], len(loc)).lower.mean().to(z.dtype)
