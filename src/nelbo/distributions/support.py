"""Properties of the support of a distribution."""

from __future__ import annotations

from torch.distributions import Distribution


def is_discrete(distribution: Distribution) -> bool:
    """Return whether a distribution is over discrete values (classes or levels), so that `log_prob` is a probability.

    Example:
        >>> import torch
        >>> from nelbo.distributions import OneHots, StandardNormal
        >>> is_discrete(OneHots(torch.zeros(3, 4))), is_discrete(StandardNormal(torch.zeros(2)))
        (True, False)
    """
    support = distribution.support
    return support is not None and bool(support.is_discrete)
