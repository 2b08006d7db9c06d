"""What values a distribution takes."""

from __future__ import annotations

from torch.distributions import Distribution


def is_discrete(distribution: Distribution) -> bool:
    """Whether its values are classes or levels, so that it has probabilities, and no densities."""
    support = distribution.support
    return support is not None and bool(support.is_discrete)
