"""Tempering: a prior made narrower or wider for sampling."""

from __future__ import annotations

from functools import singledispatch

from torch.distributions import Distribution

from nelbo.distributions.normal import DiagonalNormal


@singledispatch
def temper(distribution: Distribution, temperature: float) -> Distribution:
    """`distribution` with its spread multiplied by `temperature`; 1 leaves it as it is.

    Raises:
        NotImplementedError: where no rule is registered for the distribution.
    """
    raise NotImplementedError(f"no temperature is defined for {type(distribution).__name__}")


@temper.register
def _(distribution: DiagonalNormal, temperature: float) -> DiagonalNormal:
    return DiagonalNormal(distribution.loc, distribution.scale * temperature)
