"""A prior over discrete codes whose variables depend on each other.

Shapes: N variables of K classes, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.distributions import AutoregressiveOneHots
from nelbo.nets import CausalTransformer
from nelbo.priors.prior import Encode, Prior, classes


class Autoregressive(Prior):
    """P(z) = prod over n of P(z_n | z_1 .. z_n-1) by a causal transformer, in the order of the codes.

    For `posterior=vector_quantized`, trained with the rest of the model (van den Oord et al. 2017, section 3.3, fit a
    PixelCNN afterwards): the codes are hard, so no gradient of it reaches the encoder.

    Args:
        event_shape: (N, K).
        shape: (C, H, W), of no use here.
        width: of a position's features.
        layers: of the transformer.
        heads: of its attention; must divide the width.

    Raises:
        ConfigError: if z are vectors, or for a number out of range.
    """

    def __init__(
        self, event_shape: Sequence[int], shape: Sequence[int], *, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        size = classes("autoregressive", event_shape)
        self.net = CausalTransformer(size, width=width, layers=layers, heads=heads)
        self.register_buffer("zeros", torch.zeros(size), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> AutoregressiveOneHots:
        """p(z)."""
        return AutoregressiveOneHots(self.net, self.zeros)
