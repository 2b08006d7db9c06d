"""Gaussian priors.

Shapes: D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo import distributions
from nelbo.priors.prior import Encode, Prior, latent_dimension

SCALE_FLOOR = 1e-3
"""The lower bound of the learned standard deviations of priors."""


class StandardNormal(Prior):
    """p(z) = N(0, I) (Kingma & Welling 2014).

    Args:
        event_shape: shape of z, (D,).
        shape: shape of the images, (C, H, W); not used.

    Raises:
        ConfigError: if the latents are one-hot codes.

    Example:
        >>> p = StandardNormal((2,), (1, 28, 28))(encode=None)
        >>> p.sample((5,)).shape, p.log_prob(torch.zeros(5, 2)).shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        # A constant buffer, not saved in checkpoints, which moves to other devices with the module.
        self.register_buffer("zeros", torch.zeros(latent_dimension("standard_normal", event_shape)), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> distributions.StandardNormal:
        """Return p(z)."""
        return distributions.StandardNormal(self.zeros)


class DiagonalNormal(Prior):
    """p(z) = N(mu, diag(sigma^2)) with mu and sigma learned, initially N(0, I) up to `SCALE_FLOOR`.

    Args:
        event_shape: shape of z, (D,).
        shape: shape of the images, (C, H, W); not used.

    Raises:
        ConfigError: if the latents are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        latent_dim = latent_dimension("diagonal_normal", event_shape)
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, encode: Encode) -> distributions.DiagonalNormal:
        """Return p(z)."""
        return distributions.DiagonalNormal(self.loc, SCALE_FLOOR + self.log_scale.exp())
