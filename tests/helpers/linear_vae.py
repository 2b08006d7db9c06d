"""A linear VAE with an exact posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import FullNormal
from nelbo.models import VAE
from tests.helpers.factors import LATENT_DIM, images, make_vae


def linear_vae() -> tuple[VAE, Tensor]:
    """Return an untrained model with an exact log p(x), whose q is far from the exact posterior, and one image."""
    torch.manual_seed(2)
    return make_vae("linear", likelihood="gaussian_scheduled").double().eval(), images(count=1).double()


def exact_posterior(model: VAE, x: Tensor) -> FullNormal:
    """Return the exact posterior of a linear decoder, x = W z + b + sigma noise.

    It is N(S W^T (x - b) / sigma^2, S) with S^-1 = I + W^T W / sigma^2.
    """
    zero, unit = torch.zeros(LATENT_DIM).double(), torch.eye(LATENT_DIM).double()
    offset = model.decode(zero).mean.flatten()
    weights = torch.stack([model.decode(row).mean.flatten() - offset for row in unit], dim=1)
    precision = model.decode(zero).stddev.flatten()[0] ** -2
    covariance = torch.linalg.inv(unit + precision * weights.T @ weights)
    loc = precision * (x.flatten(1) - offset) @ weights @ covariance
    return FullNormal(loc, torch.linalg.cholesky(covariance).expand(len(x), -1, -1))
