"""An autoregressive prior over one-hot codes.

Shapes: N variables of K classes, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.distributions import AutoregressiveOneHots
from nelbo.nets import CausalTransformer
from nelbo.priors.prior import Encode, Prior, variables_and_classes


class Autoregressive(Prior):
    """P(z) = prod_n P(z_n | z_1, ..., z_{n-1}), by a causal transformer, in the order of the codes.

    It is meant for `posterior=vector_quantized` and trained together with the model, whereas van den Oord et al. 2017,
    section 3.3, fit an autoregressive prior afterwards. The codes are discrete, so none of its gradient reaches the
    encoder.

    Args:
        event_shape: shape of z, (N, K).
        shape: shape of the images, (C, H, W); not used.
        width: number of features of a position.
        layers: number of layers of the transformer.
        heads: number of attention heads; must divide `width`.

    Raises:
        ConfigError: if the latents are vectors or a number is out of range.
    """

    def __init__(
        self, event_shape: Sequence[int], shape: Sequence[int], *, width: int, layers: int, heads: int
    ) -> None:
        super().__init__()
        size = variables_and_classes("autoregressive", event_shape)
        self.net = CausalTransformer(size, width=width, layers=layers, heads=heads)
        self.register_buffer("zeros", torch.zeros(size), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> AutoregressiveOneHots:
        """Return p(z)."""
        return AutoregressiveOneHots(self.net, self.zeros)
