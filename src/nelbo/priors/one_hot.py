"""Factorised priors over one-hot codes.

Shapes: N variables of K classes, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.distributions import OneHots
from nelbo.priors.prior import Encode, Prior, variables_and_classes

PACE = 10.0
"""The factor of the learned logits, which multiplies their learning rate under Adam.

Log-probabilities fall below -10, and a step of Adam is about as long as the learning rate. With a factor of 1, a prior
over 512 classes takes longer to train than the networks."""


class Uniform(Prior):
    """P(z) = K^-N, the same for all codes (Jang et al. 2017; van den Oord et al. 2017, section 3.3, during training).

    Args:
        event_shape: shape of z, (N, K).
        shape: shape of the images, (C, H, W); not used.

    Raises:
        ConfigError: if the latents are vectors.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        # A constant buffer, not saved in checkpoints, which moves to other devices with the module.
        self.register_buffer("zeros", torch.zeros(variables_and_classes("uniform", event_shape)), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> OneHots:
        """Return p(z)."""
        return OneHots(self.zeros)


class Categorical(Prior):
    """P(z) = prod_n softmax(PACE * logits_n)[class of z_n] with the logits learned, initially uniform.

    Args:
        event_shape: shape of z, (N, K).
        shape: shape of the images, (C, H, W); not used.

    Raises:
        ConfigError: if the latents are vectors.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(variables_and_classes("categorical", event_shape)))

    def forward(self, encode: Encode) -> OneHots:
        """Return p(z)."""
        return OneHots(PACE * self.logits)
