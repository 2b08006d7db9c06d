"""A learned mixture of Gaussians.

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
from nelbo.priors.prior import Encode, Prior, vectors

STARTING_SPREAD = 0.5
"""Standard deviation of the starting means; the components' own makes up the rest to N(0, I)."""


class Mixture(Prior):
    """p(z) = sum over k of pi_k N(mu_k, diag(sigma_k^2)), all learned (Dilokthanakul et al. 2016).

    Args:
        event_shape: (D,).
        shape: (C, H, W), of no use here.
        components: K.

    Raises:
        ConfigError: if `components` is not a positive whole number, or z are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int], *, components: int) -> None:
        super().__init__()
        latent_dim, count = vectors("mixture", event_shape), positive_integer("components", components)
        self.logits = nn.Parameter(torch.zeros(count))
        self.loc = nn.Parameter(STARTING_SPREAD * torch.randn(count, latent_dim))
        starting_scale = math.sqrt(1 - STARTING_SPREAD**2)
        self.log_scale = nn.Parameter(torch.full((count, latent_dim), math.log(starting_scale)))

    def forward(self, encode: Encode) -> NormalMixture:
        """p(z)."""
        return NormalMixture(self.logits, self.loc, SCALE_FLOOR + self.log_scale.exp())
