"""The mutual information of images and codes, estimated from the density of every code under every q(z|x).

Shapes: N images with one q(z|x) each, B of them at a time, M codes, S samples per image, D latent dimensions.
All log-densities and information estimates are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution
from torchmetrics.utilities import dim_zero_cat

from nelbo.distributions import DiagonalNormal, log_densities
from nelbo.metrics.base import TraceMetric
from nelbo.numerics.precision import finest
from nelbo.trace import Trace

ELEMENTS = 2**23
"""Maximum number of elements of a tensor (codes, distributions, D); matrix products need no such tensor."""

COLUMNS = 1000
"""Number of distributions that `MutualInformation.compute` evaluates at a time."""


def centred_log_densities(q: Distribution, z: Tensor) -> Tensor:
    """Return log q_b(z_m), (M, B), in nats, by `log_densities`, from codes and means around the average mean.

    Args:
        q: B distributions, batch shape (B,).
        z: M codes, (M, *event) with event (D,), (C, h, w) or (N, K).
    """
    if not isinstance(q, DiagonalNormal):
        return log_densities(q, z)
    loc = finest(q.loc)
    centre = loc.mean(dim=0)
    return log_densities(DiagonalNormal(loc - centre, q.scale, event_dimensions=z.ndim - 1), finest(z) - centre)


def sum_densities(q: Distribution, z: Tensor, own: Tensor) -> Tensor:
    """Return the log-density of each code under the q of its own image, and under all others summed: (2, M), in nats.

    The results for two disjoint parts of the N distributions are combined with `logaddexp`.

    Args:
        q: B of the N distributions, batch shape (B,).
        z: M codes, (M, *event).
        own: for each code, the index among the B of the distribution it was drawn from, (M,); any number outside
            [0, B) if that one is not among them.
    """
    size = q.batch_shape[0]
    chunk = max(1, ELEMENTS // (size * z[0].numel()))
    parts = []
    for codes, indices in zip(z.split(chunk), own.split(chunk), strict=True):
        parts.append(own_and_others(finest(centred_log_densities(q, codes)), indices))
    return torch.cat(parts, dim=1)


def own_and_others(log_q: Tensor, own: Tensor) -> Tensor:
    """Split log-densities into that under the own distribution and the log of the sum over the others: (2, ..., M).

    Args:
        log_q: log-densities, (..., M, B); overwritten.
        own: index of each code's own distribution, (M,); see `sum_densities`.
    """
    row = ((own >= 0) & (own < log_q.shape[-1])).nonzero().squeeze(1)
    own_log_q = torch.full_like(log_q[..., 0], -math.inf)
    own_log_q[..., row] = log_q[..., row, own[row]]
    log_q[..., row, own[row]] = -math.inf
    return torch.stack([own_log_q, log_q.logsumexp(dim=-1)])


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates of the mutual information I(x; z) in nats, one for each code, to be averaged over the codes.

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
        """Log-density of the aggregate posterior, log 1/N sum_n q(z_m|x_n), (M,)."""
        return torch.logaddexp(self.own, self.others) - math.log(self.images)

    @property
    def lower(self) -> Tensor:
        """Lower estimate log q(z_m|x_m) - log q(z_m), (M,).

        Its mean is an unbiased estimate of I_q(x; z) of the N images (Hoffman & Johnson 2016) and at most log N. For
        the distribution that the images come from it is a lower bound: InfoNCE with the optimal critic (Poole et al.
        2019, "structured bounds with tractable encoders").
        """
        return self.own - self.log_aggregate

    @property
    def upper(self) -> Tensor:
        """Leave-one-out upper bound log q(z_m|x_m) - log 1/(N - 1) sum_{n != m} q(z_m|x_n), (M,).

        Poole et al. 2019.
        """
        return self.own - self.others + math.log(self.images - 1)


class MutualInformation(TraceMetric):
    """I_q(x; z) of the accumulated images in nats, see `Estimates.lower`, for Gaussian q with independent units.

    With several levels z is that of the top level.

    Every code is evaluated under every q(z|x). The states are therefore not sums, but the parameters of q and the codes
    of all images.
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
        """Return whether q of the top level is a `DiagonalNormal` that depends on x alone."""
        q = trace.latents[0].q
        return isinstance(q, DiagonalNormal) and len(q.batch_shape) < 2

    def update(self, trace: Trace) -> None:
        """Store the parameters of q and the codes of a trace."""
        latent, rank = trace.latents[0], trace.latents[0].z.ndim - 2
        assert isinstance(latent.q, DiagonalNormal)
        self.loc.append(latent.over_examples(latent.q.loc, rank).detach().flatten(1))
        self.scale.append(latent.over_examples(latent.q.scale, rank).detach().flatten(1))
        self.z.append(latent.z.detach().transpose(0, 1).flatten(2))

    def compute(self) -> Tensor:
        """Return the mean over examples and samples."""
        loc, scale, z = dim_zero_cat(self.loc), dim_zero_cat(self.scale), dim_zero_cat(self.z)
        own = torch.arange(len(z), device=z.device).repeat_interleave(z.shape[1])
        total = finest(z.new_full((2, len(own)), -math.inf))
        for start in range(0, len(loc), COLUMNS):
            part = slice(start, start + COLUMNS)
            q = DiagonalNormal(loc[part], scale[part])
            total = torch.logaddexp(total, sum_densities(q, z.flatten(0, 1), own - start))
        return Estimates(total[0], total[1], len(loc)).lower.mean().to(z.dtype)
