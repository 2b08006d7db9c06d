"""A prior learned as a flow.

Shapes: D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo import distributions
from nelbo.nets import FlowTransforms
from nelbo.priors.prior import Encode, Prior, vectors


class Flow(Prior):
    """p(z): N(0, I) seen through invertible layers (Dinh et al. 2017; as a prior, Chen et al. 2017, section 3.2).

    The layers map z to noise, so the density that training needs is fast; samples invert them, which is fast for
    `coupling` and `spline` and takes D passes a layer for `autoregressive`.

    Args:
        event_shape: (D,).
        shape: (C, H, W), of no use here.
        kind: coupling (RealNVP), spline or autoregressive.
        layers: how many.
        hidden: widths of each layer's net.

    Raises:
        ConfigError: for a kind that does not exist, a number out of range, or z that are one-hot codes.
    """

    def __init__(
        self, event_shape: Sequence[int], shape: Sequence[int], *, kind: str, layers: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        latent_dim = vectors("flow", event_shape)
        self.transforms = FlowTransforms(latent_dim, 0, kind=kind, layers=layers, hidden=hidden)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> distributions.Flow:
        """p(z)."""
        return distributions.Flow(distributions.StandardNormal(self.zeros), self.transforms().inv)
