"""Gaussian priors.

Shapes: D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo import distributions
from nelbo.priors.prior import Encode, Prior, vectors

SCALE_FLOOR = 1e-3
"""No learned standard deviation of a prior goes below this."""


class StandardNormal(Prior):
    """p(z) = N(0, I), Kingma & Welling 2014.

    Args:
        event_shape: (D,).
        shape: (C, H, W), of no use here.

    Raises:
        ConfigError: if z are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        # Not in the checkpoint: a constant that follows the module from device to device.
        self.register_buffer("zeros", torch.zeros(vectors("standard_normal", event_shape)), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> distributions.StandardNormal:
        """p(z)."""
        return distributions.StandardNormal(self.zeros)


class DiagonalNormal(Prior):
    """p(z) = N(mu, diag(sigma^2)), both learned; starts at N(0, I).

    Args:
        event_shape: (D,).
        shape: (C, H, W), of no use here.

    Raises:
        ConfigError: if z are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        latent_dim = vectors("diagonal_normal", event_shape)
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, encode: Encode) -> distributions.DiagonalNormal:
        """p(z)."""
        return distributions.DiagonalNormal(self.loc, SCALE_FLOOR + self.log_scale.exp())
