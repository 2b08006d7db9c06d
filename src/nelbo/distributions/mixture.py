"""Mixture distributions over vectors.

Shapes: K components, D dimensions, any leading shape.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily

from nelbo.distributions.flow import Flow
from nelbo.distributions.normal import DiagonalNormal, FullNormal
from nelbo.distributions.pairwise import log_densities

MOST_DENSITIES = 1 << 17
"""Largest number of densities of flows that are computed at once."""


class GaussianMixture(MixtureSameFamily):
    """p(z) = sum_k softmax(logits)_k N(z; m_k, S_k), batch shape (), event shape (D,).

    `log_prob` is that of all pairs of a point and a component, computed in float64 (`pairwise.py`).

    Args:
        logits: unnormalised log weights, (K,).
        components: the K Gaussians, batch shape (K,).
    """

    def __init__(self, logits: Tensor, components: DiagonalNormal | FullNormal) -> None:
        super().__init__(Categorical(logits=logits, validate_args=False), components, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats, of vectors (..., D)."""
        pairs = log_densities(self.component_distribution, value, self.mixture_distribution.logits)
        return pairs.logsumexp(dim=-1).to(value.dtype)


class NormalMixture(GaussianMixture):
    """p(z) = sum_k softmax(logits)_k N(z; loc_k, diag(scale_k^2)), batch shape (), event shape (D,).

    Args:
        logits: unnormalised log weights, (K,).
        loc: means, (K, D).
        scale: standard deviations, (K, D).

    Example:
        >>> p = NormalMixture(torch.zeros(10), torch.randn(10, 2), torch.ones(10, 2))
        >>> p.log_prob(torch.zeros(3, 5, 2)).shape
        torch.Size([3, 5])
    """

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(logits, DiagonalNormal(loc, scale))


class FlowMixture(MixtureSameFamily):
    """p(z) = 1/K sum_k q_k(z) of flows q_k, batch shape (), event shape (D,).

    The density at a point inverts every flow there: K inverses for each z. They are computed for `MOST_DENSITIES` pairs
    of z and component at a time, which bounds the memory where no gradient is needed.

    Args:
        flows: the K components, batch shape (K,), whose inverse is fast.

    Raises:
        NotImplementedError: if the inverse is slow, as that of an autoregressive flow.
    """

    def __init__(self, flows: Flow) -> None:
        if not flows.fast_inverse:
            raise NotImplementedError("the inverse of an autoregressive flow takes D passes, for each of K components")
        self.flows = flows
        weights = Categorical(logits=torch.zeros_like(flows.base.loc[:, 0]), validate_args=False)
        super().__init__(weights, flows, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value), (...), in nats, of vectors (..., D)."""
        rows = value.reshape(-1, value.shape[-1]).unsqueeze(-2)
        size = max(1, MOST_DENSITIES // len(self.flows.base.loc))
        pairs = torch.cat([self.flows.log_prob(part) for part in rows.split(size)])
        return (pairs.logsumexp(-1) - math.log(pairs.shape[-1])).reshape(value.shape[:-1])

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return samples, (*sample_shape, D).

        Every flow draws as many samples as the one that is chosen most often, and surplus ones are left out.
        """
        shape = torch.Size(sample_shape)
        chosen = self.mixture_distribution.sample(torch.Size((shape.numel(),)))
        counts = chosen.bincount(minlength=len(self.flows.base.loc))
        order, first = chosen.argsort(stable=True), counts.cumsum(0) - counts
        turn = torch.empty_like(chosen)  # the number of earlier samples of the same component
        turn[order] = torch.arange(len(chosen), device=chosen.device) - first[chosen[order]]
        draws = self.flows.sample(torch.Size((int(counts.max()),)))
        return draws[turn, chosen].reshape(*shape, *self.event_shape)


@singledispatch
def even_mixture(components: Distribution) -> Distribution:
    """Return the mixture of `components` with equal weights.

    Args:
        components: the K components, batch shape (K,), event shape (D,).

    Returns:
        A distribution with batch shape () and event shape (D,).

    Raises:
        NotImplementedError: for distributions without a density at a given point, or with a slow one, as
            autoregressive flows.
    """
    raise NotImplementedError(f"no mixture is defined for {type(components).__name__}")


@even_mixture.register
def _(components: DiagonalNormal) -> Distribution:
    return NormalMixture(torch.zeros_like(components.loc[:, 0]), components.loc, components.scale)


@even_mixture.register
def _(components: FullNormal) -> Distribution:
    return GaussianMixture(torch.zeros_like(components.loc[:, 0]), components)


@even_mixture.register(Independent)
def _(components: Distribution) -> Distribution:
    weights = Categorical(logits=torch.zeros_like(components.mean[:, 0]), validate_args=False)
    return MixtureSameFamily(weights, components, validate_args=False)


@even_mixture.register
def _(components: Flow) -> Distribution:
    return FlowMixture(components)
