"""A normalizing-flow prior.

Shapes: D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo import distributions
from nelbo.nets import FlowTransforms
from nelbo.priors.prior import Encode, Prior, latent_dimension


class Flow(Prior):
    """p(z) = N(0, I) transformed by invertible layers (Dinh et al. 2017; as a prior, Chen et al. 2017, section 3.2).

    The layers map z to noise, so the density, which training needs, takes one pass per layer. Sampling inverts the
    layers: one pass per layer for `coupling` and `spline`, D passes per layer for `autoregressive`.

    Args:
        event_shape: shape of z, (D,).
        shape: shape of the images, (C, H, W); not used.
        kind: coupling (RealNVP), spline or autoregressive.
        layers: number of layers.
        hidden: widths of the hidden layers of each network.

    Raises:
        ConfigError: if the kind is unknown, a number is out of range, or the latents are one-hot codes.
    """

    def __init__(
        self, event_shape: Sequence[int], shape: Sequence[int], *, kind: str, layers: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        latent_dim = latent_dimension("flow", event_shape)
        self.transforms = FlowTransforms(latent_dim, 0, kind=kind, layers=layers, hidden=hidden)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> distributions.Flow:
        """Return p(z)."""
        base = distributions.StandardNormal(self.zeros)
        return distributions.Flow(base, self.transforms().inv, fast_inverse=True)  # the inverse is what the layers map
