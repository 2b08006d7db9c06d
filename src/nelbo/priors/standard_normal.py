"""The prior of Kingma & Welling 2014."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal
from nelbo.priors.prior import Encode, Prior


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        # Not in the checkpoint: constants that follow the module from device to device.
        self.register_buffer("loc", torch.zeros(latent_dim), persistent=False)
        self.register_buffer("scale", torch.ones(latent_dim), persistent=False)
        self.loc: Tensor
        self.scale: Tensor

    def forward(self, encode: Encode) -> DiagonalNormal:
        """p(z)."""
        return DiagonalNormal(self.loc, self.scale)
