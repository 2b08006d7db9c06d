"""The prior of Kingma & Welling 2014."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo import distributions
from nelbo.priors.prior import Encode, Prior


class StandardNormal(Prior):
    """p(z) = N(0, I).

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        # Not in the checkpoint: a constant that follows the module from device to device.
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> distributions.StandardNormal:
        """p(z)."""
        return distributions.StandardNormal(self.zeros)
