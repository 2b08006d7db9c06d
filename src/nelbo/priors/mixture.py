"""A mixture of Gaussians as a prior.

Shapes: K components, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from nelbo.distributions import NormalMixture
from nelbo.errors import positive_integer
from nelbo.priors.normal import SCALE_FLOOR
from nelbo.priors.prior import Encode, Prior, latent_dimension

STARTING_SPREAD = 0.5
"""Initial standard deviation of the means; the components have the remaining variance of N(0, I)."""


class Mixture(Prior):
    """p(z) = sum_k pi_k N(z; mu_k, diag(sigma_k^2)) with all parameters learned (Dilokthanakul et al. 2016).

    Args:
        event_shape: shape of z, (D,).
        shape: shape of the images, (C, H, W); not used.
        components: number of components K.

    Raises:
        ConfigError: if `components` is not a positive whole number, or the latents are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int], *, components: int) -> None:
        super().__init__()
        latent_dim, count = latent_dimension("mixture", event_shape), positive_integer("components", components)
        self.logits = nn.Parameter(torch.zeros(count))
        self.loc = nn.Parameter(STARTING_SPREAD * torch.randn(count, latent_dim))
        starting_scale = math.sqrt(1 - STARTING_SPREAD**2)
        self.log_scale = nn.Parameter(torch.full((count, latent_dim), math.log(starting_scale)))

    def forward(self, encode: Encode) -> NormalMixture:
        """Return p(z)."""
        return NormalMixture(self.logits, self.loc, SCALE_FLOOR + self.log_scale.exp())
