"""Samples that come with their density, and means where there is no closed form."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions.flow import Flow
from nelbo.distributions.normal import FullNormal

MEAN_SAMPLES = 32
"""A mean without a closed form is an average of so many samples."""


@singledispatch
def sample_with_density(distribution: Distribution, num_samples: int) -> tuple[Tensor, Tensor | None]:
    """`num_samples` samples, (S, B, D), and log p of each, (S, B), where sampling gives it for free.

    Reparameterised, except for classes: those have no such samples, and are relaxed where a gradient is needed.
    """
    draw = distribution.rsample if distribution.has_rsample else distribution.sample
    return draw(torch.Size((num_samples,))), None


@sample_with_density.register(Flow)
@sample_with_density.register(FullNormal)
def _(distribution: Flow | FullNormal, num_samples: int) -> tuple[Tensor, Tensor]:
    return distribution.rsample_and_log_prob((num_samples,))


def two_means(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """E[z], (B, D), twice: the exact one, or averages of independent samples, whose product has no bias from noise."""
    try:
        mean = distribution.mean
    except NotImplementedError:
        first, second = distribution.sample(torch.Size((MEAN_SAMPLES,))).chunk(2)
        return first.mean(dim=0), second.mean(dim=0)
    return mean, mean


def mean_of(distribution: Distribution) -> Tensor:
    """E[z], (B, D): the exact one, or an average of `MEAN_SAMPLES` samples."""
    first, second = two_means(distribution)
    return (first + second) / 2
