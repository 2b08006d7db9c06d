"""What every prior is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.distributions import Distribution

Encode = Callable[[Tensor], Distribution]


class Prior(nn.Module):
    """Returns p(z) with batch shape () and event shape (D,)."""

    def forward(self, encode: Encode) -> Distribution:
        """p(z). Only a prior made of posteriors (VampPrior) uses `encode`, which maps images to q(z|x)."""
        raise NotImplementedError
