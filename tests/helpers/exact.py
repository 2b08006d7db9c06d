"""Exact likelihoods of linear models."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, MultivariateNormal

from nelbo.models import VAE
from tests.helpers.factors import POSTERIORS

DENSITIES = [name for name in POSTERIORS if name != "deterministic"]


def exact(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """Return log p(x) in nats, (B,), of a linear decoder and a Gaussian prior.

    p(x) = N(x; W m + b, W diag(s^2) W^T + sigma^2 I) with prior means m and standard deviations s.
    """
    zero, unit = torch.zeros(3).double(), torch.eye(3).double()
    offset = model.decode(zero).mean.flatten()
    weights = torch.stack([model.decode(row).mean.flatten() - offset for row in unit], dim=1)
    prior = model.prior(model.encode)
    sigma = model.decode(zero).base_dist.scale.flatten()  # type: ignore[attr-defined]
    covariance = weights @ torch.diag(prior.variance) @ weights.T + torch.diag(sigma.square())
    marginal: Distribution = MultivariateNormal(offset + weights @ prior.mean, covariance)
    return marginal.log_prob(x.flatten(1))
