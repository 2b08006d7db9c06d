"""Gaussian distributions over vectors and their KLs.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, register_kl

from nelbo.numerics.precision import finest, without_autocast


class DiagonalNormal(Independent[Normal]):
    """N(loc, diag(scale^2)) over vectors, event shape (D,), or over maps, event shape (C, h, w).

    It is a class of its own so that KLs can be registered for it.

    Args:
        loc: mean, (..., *event).
        scale: standard deviation, (..., *event).
        log_scale: the logarithm of `scale`, if it is already computed.
        event_dimensions: number of dimensions of the event.

    Example:
        >>> from torch.distributions import kl_divergence
        >>> q = DiagonalNormal(torch.ones(5, 2), torch.ones(5, 2))
        >>> kl_divergence(q, StandardNormal(torch.zeros(2)))  # |loc|^2 / 2 nats
        tensor([1., 1., 1., 1., 1.])
    """

    def __init__(
        self, loc: Tensor, scale: Tensor, log_scale: Tensor | None = None, *, event_dimensions: int = 1
    ) -> None:
        self._log_scale = log_scale
        super().__init__(Normal(loc, scale, validate_args=False), event_dimensions, validate_args=False)

    @property
    def loc(self) -> Tensor:
        """The mean, (..., *event)."""
        loc: Tensor = self.base_dist.loc
        return loc

    @property
    def scale(self) -> Tensor:
        """The standard deviation, (..., *event)."""
        scale: Tensor = self.base_dist.scale
        return scale

    @property
    def log_scale(self) -> Tensor:
        """The logarithm of the standard deviation, (..., *event)."""
        return self.scale.log() if self._log_scale is None else self._log_scale

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> DiagonalNormal:
        """Return the same distribution with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(
            self.loc.expand(shape), self.scale.expand(shape), event_dimensions=self.reinterpreted_batch_ndims
        )

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples loc + scale * epsilon, (*sample_shape, ..., *event) (Kingma & Welling 2014, section 2.4)."""
        shape = (*sample_shape, *self.batch_shape, *self.event_shape)
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


class StandardNormal(DiagonalNormal):
    """N(0, I) over vectors.

    Args:
        like: a tensor (D,) with the size, device and dtype of z.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__(torch.zeros_like(like), torch.ones_like(like))


@register_kl(DiagonalNormal, DiagonalNormal)  # type: ignore[untyped-decorator]
def _kl_diagonal_normal(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    """Return the KL, (...), in nats (Kingma & Welling 2014, appendix B, generalised to any diagonal q)."""
    event = tuple(range(-p.reinterpreted_batch_ndims, 0))
    if isinstance(q, StandardNormal):
        return (0.5 * (p.loc.square() + p.scale.square() - 1) - p.log_scale).sum(event)
    ratio, distance = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(event)


class FullNormal(MultivariateNormal):
    """N(loc, L L^T) over vectors, event shape (D,).

    Args:
        loc: mean, (..., D).
        scale_tril: L, lower triangular with a positive diagonal, (..., D, D).
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc, scale_tril=scale_tril, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats."""
        e = self.standardized(value)
        return self._log_density(e.to(value.dtype, memory_format=torch.contiguous_format))

    def standardized(self, value: Tensor) -> Tensor:
        """Return e = L^-1 (value - loc), (..., D), in float64 if the device has it.

        The triangular solve is in float64: its error can grow with 2^D if the off-diagonal entries of L are not small.
        Points that share a factor are the columns of one solve, so that no factor is copied for each of them.
        """
        factor, distance = finest(self.scale_tril), finest(value) - finest(self.loc)
        shared = distance.ndim - 1 - len(self.batch_shape)
        columns = distance.reshape(-1, *distance.shape[shared:]).movedim(0, -1)
        solved: Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
        return solved.movedim(-1, 0).reshape(distance.shape)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> FullNormal:
        """Return the same distribution with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return FullNormal(self.loc.expand(shape), self.scale_tril.expand((*shape, *self.event_shape)))

    def rsample_and_log_prob(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """Return samples loc + L e, (*sample_shape, ..., D), and log p of each, (*sample_shape, ...), in nats.

        The density is computed from the noise e, without a triangular solve.
        """
        e = torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        # The density is that of the exact product, so it must not be rounded to bfloat16.
        with without_autocast(e.device):
            z = self.loc + (self.scale_tril @ e.unsqueeze(-1)).squeeze(-1)
        return z, self._log_density(e)

    def _log_density(self, e: Tensor) -> Tensor:
        log_determinant = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (e.square().sum(-1) + e.shape[-1] * math.log(2 * math.pi)) - log_determinant


@register_kl(MultivariateNormal, DiagonalNormal)  # type: ignore[untyped-decorator]
def _kl_full_normal(p: MultivariateNormal, q: DiagonalNormal) -> Tensor:
    """Return the KL of p = N(m, L L^T) and q = N(m', diag(s^2)), (...), in nats.

    It is 1/2 (|L / s|^2 + |(m - m') / s|^2 - D) - sum_i log L_ii + sum_i log s_i.
    """
    factor = p.scale_tril
    spread = (factor / q.scale.unsqueeze(-1)).square().sum((-2, -1))
    distance = ((p.loc - q.loc) / q.scale).square().sum(-1)
    log_ratio = q.log_scale.sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (spread + distance - p.event_shape[0]) + log_ratio
