"""Tempering: priors with a smaller or larger spread, for sampling."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from torch.distributions import Distribution, Independent, MixtureSameFamily

from nelbo.distributions.autoregressive import AutoregressiveOneHots
from nelbo.distributions.first_units import FirstUnitsMixture
from nelbo.distributions.flow import Flow
from nelbo.distributions.mixture import FlowMixture, GaussianMixture, NormalMixture
from nelbo.distributions.normal import DiagonalNormal, FullNormal
from nelbo.distributions.one_hot import OneHots


@singledispatch
def temper(distribution: Distribution, temperature: float) -> Distribution:
    """Return `distribution` with its spread multiplied by `temperature`.

    Scales of Gaussians and Laplace distributions are multiplied by it. In a mixture those of the components are, in a
    flow those of the base. Logits of classes are divided by it. Units of a mixture that `first_units` has replaced keep
    N(0, 1).

    Args:
        distribution: a prior or posterior over latent variables.
        temperature: a positive number; 1 leaves the distribution unchanged.

    Raises:
        NotImplementedError: if no rule is registered for the distribution.

    Example:
        >>> import torch
        >>> from nelbo.distributions import StandardNormal
        >>> temper(StandardNormal(torch.zeros(2)), 0.5).scale
        tensor([0.5000, 0.5000])
    """
    if temperature == 1:
        return distribution
    raise NotImplementedError(f"no temperature is defined for {type(distribution).__name__}")


@temper.register
def _(distribution: DiagonalNormal, temperature: float) -> DiagonalNormal:
    rank = distribution.reinterpreted_batch_ndims
    return DiagonalNormal(distribution.loc, distribution.scale * temperature, event_dimensions=rank)


@temper.register(Independent)
def _(distribution: Independent[Any], temperature: float) -> Independent[Any]:
    base = distribution.base_dist
    parameters = {name: getattr(base, name) for name in base.arg_constraints}
    if "scale" not in parameters:
        return distribution if temperature == 1 else temper.dispatch(Distribution)(base, temperature)  # type: ignore[return-value]
    scaled = type(base)(**{**parameters, "scale": base.scale * temperature}, validate_args=False)
    return Independent(scaled, distribution.reinterpreted_batch_ndims, validate_args=False)


@temper.register
def _(distribution: OneHots, temperature: float) -> OneHots:
    return OneHots(distribution.logits / temperature)


@temper.register
def _(distribution: AutoregressiveOneHots, temperature: float) -> AutoregressiveOneHots:
    return AutoregressiveOneHots(distribution.logits, distribution.like, distribution.temperature * temperature)


@temper.register
def _(distribution: FullNormal, temperature: float) -> FullNormal:
    return FullNormal(distribution.loc, distribution.scale_tril * temperature)


@temper.register
def _(distribution: NormalMixture, temperature: float) -> NormalMixture:
    logits = distribution.mixture_distribution.logits
    return NormalMixture(logits, distribution.loc, distribution.scale * temperature)


@temper.register
def _(distribution: GaussianMixture, temperature: float) -> GaussianMixture:
    components = temper(distribution.component_distribution, temperature)
    assert isinstance(components, DiagonalNormal | FullNormal)
    return GaussianMixture(distribution.mixture_distribution.logits, components)


@temper.register
def _(distribution: MixtureSameFamily, temperature: float) -> MixtureSameFamily:
    components = temper(distribution.component_distribution, temperature)
    return MixtureSameFamily(distribution.mixture_distribution, components, validate_args=False)


@temper.register
def _(distribution: FirstUnitsMixture, temperature: float) -> FirstUnitsMixture:
    mixture = temper(distribution.mixture, temperature)
    assert isinstance(mixture, MixtureSameFamily)
    return FirstUnitsMixture(mixture, distribution.mask)


@temper.register
def _(distribution: Flow, temperature: float) -> Flow:
    base = temper(distribution.base, temperature)
    assert isinstance(base, DiagonalNormal)
    return Flow(base, distribution.transform, fast_inverse=distribution.fast_inverse)


@temper.register
def _(distribution: FlowMixture, temperature: float) -> FlowMixture:
    components = temper(distribution.flows, temperature)
    assert isinstance(components, Flow)
    return FlowMixture(components)
