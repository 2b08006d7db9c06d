"""Priors over discrete codes.

Shapes: N variables of K classes, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.distributions import OneHots
from nelbo.priors.prior import Encode, Prior, classes

PACE = 10.0
"""The learned logits count so many times, and so are learned as much faster: log-probabilities go below -10, and a step
of Adam is as long as the learning rate. With 1, a prior over 512 classes takes longer than the networks do."""


class Uniform(Prior):
    """P(z) = K^-N: all codes alike (Jang et al. 2017; van den Oord et al. 2017, section 3.3, while training).

    Args:
        event_shape: (N, K).
        shape: (C, H, W), of no use here.

    Raises:
        ConfigError: if z are vectors.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        # Not in the checkpoint: a constant that follows the module from device to device.
        self.register_buffer("zeros", torch.zeros(classes("uniform", event_shape)), persistent=False)
        self.zeros: Tensor

    def forward(self, encode: Encode) -> OneHots:
        """p(z)."""
        return OneHots(self.zeros)


class Categorical(Prior):
    """P(z) = prod over n of softmax(`PACE` logits_n)[class of z_n], all logits learned; starts uniform.

    Args:
        event_shape: (N, K).
        shape: (C, H, W), of no use here.

    Raises:
        ConfigError: if z are vectors.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(classes("categorical", event_shape)))

    def forward(self, encode: Encode) -> OneHots:
        """p(z)."""
        return OneHots(PACE * self.logits)
