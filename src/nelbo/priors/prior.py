"""What every prior is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution

Encode = Callable[[Tensor], Distribution]


class Prior(nn.Module):
    """Returns p(z) with batch shape () and event shape (D,). Made from (latent_dim, shape of the images)."""

    def forward(self, encode: Encode) -> Distribution:
        """p(z). Only a prior made of posteriors (VampPrior) uses `encode`, which maps images to q(z|x)."""
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Take starting values from training images (N, C, H, W) in [0, 1], where the prior has any."""
