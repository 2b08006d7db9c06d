"""The first units of a distribution, as many as each image has, in place of all: the others become N(0, 1).

If q(z|x) and p(z) both have N(0, 1) in the units beyond K, these contribute nothing to the KL and cancel in importance
weights, and what is left is the model of the first K units.

Shapes: B batch, D units, any leading shape.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    constraints,
    kl_divergence,
    register_kl,
)

from nelbo.distributions.normal import DiagonalNormal, FullNormal, StandardNormal
from nelbo.distributions.pairwise import LOG_SQRT_TWO_PI, first_log_densities
from nelbo.numerics.precision import finest


class FirstUnits(Distribution):
    """Independent numbers, those beyond the first of each image N(0, 1), batch shape (..., D), event shape ().

    Args:
        distribution: the distributions of single numbers, batch shape (..., D).
        mask: 1 for the units that are kept and 0 for those replaced, (..., D).
    """

    arg_constraints = {}
    support = constraints.real

    def __init__(self, distribution: Distribution, mask: Tensor) -> None:
        self.distribution, self.kept = distribution, mask > 0
        batch_shape = torch.broadcast_shapes(distribution.batch_shape, mask.shape)
        super().__init__(batch_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether samples are reparameterised."""
        return self.distribution.has_rsample

    @property
    def mean(self) -> Tensor:
        """The mean, (..., D)."""
        return torch.where(self.kept, self.distribution.mean, 0.0)

    @property
    def variance(self) -> Tensor:
        """The variance, (..., D)."""
        return torch.where(self.kept, self.distribution.variance, 1.0)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return reparameterised samples, (*sample_shape, ..., D)."""
        return self._or_noise(self.distribution.rsample(torch.Size(sample_shape)))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples, (*sample_shape, ..., D)."""
        return self._or_noise(self.distribution.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value) of each unit, (..., D), in nats."""
        return torch.where(self.kept, self.distribution.log_prob(value), -0.5 * value.square() - LOG_SQRT_TWO_PI)

    def _or_noise(self, drawn: Tensor) -> Tensor:
        return torch.where(self.kept, drawn, torch.randn_like(drawn))


@register_kl(FirstUnits, Normal)  # type: ignore[untyped-decorator]
def _kl_first_units(p: FirstUnits, q: Normal) -> Tensor:
    """Return the KL of each unit, (..., D), in nats: exactly 0 where both are N(0, 1)."""
    standard = Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale), validate_args=False)
    return torch.where(p.kept, kl_divergence(p.distribution, q), kl_divergence(standard, q))


class FirstUnitsMixture(Distribution):
    """A mixture of the first units of its components, times N(0, 1) in the others; event shape (D,).

    The marginal of a mixture on its first units is the mixture of the components' marginals, with the same weights.
    `log_prob` computes no component anew for an image: its parameters are shared by all of them.

    Args:
        mixture: a mixture over vectors of independent units, or of full Gaussians, batch shape ().
        mask: 1 for the units that are kept and 0 for those replaced, (..., D); the batch shape is (...).
    """

    arg_constraints = {}
    support = constraints.real_vector

    def __init__(self, mixture: MixtureSameFamily, mask: Tensor) -> None:
        self.mixture, self.mask = mixture, mask
        super().__init__(mask.shape[:-1], mask.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean, (..., D)."""
        return torch.where(self.mask > 0, self.mixture.mean, 0.0)

    @property
    def variance(self) -> Tensor:
        """The variance of each unit, (..., D)."""
        return torch.where(self.mask > 0, self.mixture.variance, 1.0)

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples, (*sample_shape, ..., D)."""
        drawn = self.mixture.sample(torch.Size((*sample_shape, *self.batch_shape)))
        return torch.where(self.mask > 0, drawn, torch.randn_like(drawn))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats, of vectors (..., D)."""
        logits = self.mixture.mixture_distribution.logits
        pairs = first_log_densities(self.mixture.component_distribution, value, self.mask, logits)
        rest = (1 - finest(self.mask)) * (-0.5 * finest(value).square() - LOG_SQRT_TWO_PI)
        return (pairs.logsumexp(-1) + rest.sum(-1)).to(value.dtype)


@singledispatch
def first_units(distribution: Distribution, mask: Tensor) -> Distribution:
    """Return `distribution` with N(0, 1) in place of the units beyond the first of each image.

    It is exact, in that the first units have the marginal that they have in `distribution`.

    Args:
        distribution: over vectors, event shape (D,), batch shape () or that of `mask`.
        mask: 1 for the first units and 0 for those beyond, (B, D), or (D,) for all images.

    Returns:
        A distribution with the batch shape of both; `distribution` itself if it is N(0, I).

    Raises:
        NotImplementedError: for distributions whose first units have no marginal in closed form, as those of a flow.

    Example:
        >>> p = DiagonalNormal(torch.full((3,), 5.0), torch.full((3,), 2.0))
        >>> first_units(p, torch.tensor([[1.0, 0, 0], [1, 1, 0]])).mean
        tensor([[5., 0., 0.],
                [5., 5., 0.]])
    """
    raise NotImplementedError(f"the first units of {type(distribution).__name__} have no marginal in closed form")


@first_units.register
def _(distribution: StandardNormal, mask: Tensor) -> StandardNormal:
    return distribution


@first_units.register
def _(distribution: DiagonalNormal, mask: Tensor) -> DiagonalNormal:
    log_scale = distribution.log_scale * mask
    return DiagonalNormal(distribution.loc * mask, log_scale.exp(), log_scale)


@first_units.register
def _(distribution: FullNormal, mask: Tensor) -> FullNormal:
    # L is triangular, so the first rows of L are zero in the columns beyond them.
    kept = mask.unsqueeze(-1) > 0
    return FullNormal(distribution.loc * mask, torch.where(kept, distribution.scale_tril, torch.diag_embed(1 - mask)))


@first_units.register(Independent)
def _(distribution: Independent[Any], mask: Tensor) -> Independent[Any]:
    return Independent(FirstUnits(distribution.base_dist, mask), 1, validate_args=False)


@first_units.register
def _(distribution: MixtureSameFamily, mask: Tensor) -> FirstUnitsMixture:
    components = distribution.component_distribution
    if not isinstance(components, Independent | FullNormal):
        raise NotImplementedError(f"the first units of {type(components).__name__} have no marginal in closed form")
    return FirstUnitsMixture(distribution, mask)
