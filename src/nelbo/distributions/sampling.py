"""Samples together with their density, and means of distributions without a closed form."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions.autoregressive import AutoregressiveOneHots
from nelbo.distributions.flow import Flow
from nelbo.distributions.normal import FullNormal
from nelbo.distributions.one_hot import OneHots, Quantized, RelaxedOneHot, one_hot
from nelbo.distributions.support import is_discrete
from nelbo.distributions.tempering import temper

MEAN_SAMPLES = 32
"""The number of samples that estimate a mean without a closed form."""


@singledispatch
def sample_with_density(distribution: Distribution, num_samples: int) -> tuple[Tensor, Tensor | None]:
    """Return samples and, if it can be computed with them at little cost, their log-density.

    Samples are reparameterised if the distribution supports it; `OneHots` does not, `RelaxedOneHot` does.

    Args:
        distribution: batch shape (B,), event shape (D,) or another.
        num_samples: S.

    Returns:
        Samples, (S, B, D), and log p of each, (S, B), in nats. The latter is None unless the distribution is a `Flow`
        or a `FullNormal`.

    Example:
        >>> from nelbo.distributions import DiagonalNormal
        >>> z, log_q = sample_with_density(FullNormal(torch.zeros(5, 2), torch.eye(2).expand(5, 2, 2)), 3)
        >>> z.shape, log_q.shape
        (torch.Size([3, 5, 2]), torch.Size([3, 5]))
        >>> sample_with_density(DiagonalNormal(torch.zeros(5, 2), torch.ones(5, 2)), 3)[1] is None
        True
    """
    draw = distribution.rsample if distribution.has_rsample else distribution.sample
    return draw(torch.Size((num_samples,))), None


@sample_with_density.register(Flow)
@sample_with_density.register(FullNormal)
def _(distribution: Flow | FullNormal, num_samples: int) -> tuple[Tensor, Tensor]:
    return distribution.rsample_and_log_prob((num_samples,))


def log_prob_at_sample(distribution: Distribution, z: Tensor, source: Distribution) -> Tensor:
    """Return log p(z), (S, B), in nats, of samples of another distribution.

    `log_prob` of codes checks that they are one-hot, for which a GPU has to finish its work. Samples of most
    distributions over codes are one-hot, or NaN, by construction; of those the values are not read.

    Args:
        distribution: p.
        z: samples, (S, B, *event).
        source: the distribution that z was drawn from.

    Example:
        >>> p, q = OneHots(torch.zeros(3, 4)), OneHots(torch.zeros(5, 3, 4))
        >>> log_prob_at_sample(p, q.sample((2,)), q).shape
        torch.Size([2, 5])
    """
    gives_codes = isinstance(source, OneHots | AutoregressiveOneHots | Quantized)
    if isinstance(source, RelaxedOneHot):
        gives_codes = source.straight_through
    if gives_codes and isinstance(distribution, OneHots | AutoregressiveOneHots):
        return distribution.log_prob_of_codes(z)
    log_p: Tensor = distribution.log_prob(z)
    return log_p


def two_means(distribution: Distribution) -> tuple[Tensor, Tensor]:
    """Return two estimates of E[z], each (B, D).

    Both are exact if the mean has a closed form. Otherwise they are averages of independent samples, so that their
    product is an unbiased estimate of E[z]^2.
    """
    try:
        mean = distribution.mean
    except NotImplementedError:
        first, second = distribution.sample(torch.Size((MEAN_SAMPLES,))).chunk(2)
        return first.mean(dim=0), second.mean(dim=0)
    return mean, mean


def mean_of(distribution: Distribution) -> Tensor:
    """Return E[z], (B, D): exact if it has a closed form, else an average of `MEAN_SAMPLES` samples."""
    first, second = two_means(distribution)
    return (first + second) / 2


def code_of(distribution: Distribution) -> Tensor:
    """Return the code that represents a distribution: its mean, (..., *event), or the most probable classes.

    The mean of one-hot codes is a vector of probabilities, which is not a code itself.
    """
    mean = mean_of(distribution)
    if not is_discrete(distribution):
        return mean
    return one_hot(mean.argmax(-1), mean.shape[-1], mean)


def sample_at(distribution: Distribution, n: int, temperature: float) -> Tensor:
    """Return n samples of a distribution with its spread multiplied by a temperature, (n, *event).

    Args:
        distribution: batch shape (), or (n,) for one sample of each.
        n: the number of samples.
        temperature: 1 leaves the distribution unchanged; 0 gives its code, the same for every sample.
    """
    if temperature == 0:
        code = code_of(distribution)
        return code if distribution.batch_shape else code.expand(n, *code.shape)
    sampled: Tensor = temper(distribution, temperature).sample(torch.Size(() if distribution.batch_shape else (n,)))
    return sampled
