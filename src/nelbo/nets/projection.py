"""From features to the parameters of a head: the only code that looks at a feature's shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.nets.base import Net


class Projection(Net):
    """Features to `out_shape`: a 1x1 convolution where both are images of one size, a linear layer otherwise.

    Args:
        in_shape: shape of the features.
        out_shape: shape of the parameters.
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        layers: list[nn.Module]
        if len(in_shape) == len(out_shape) == 3 and tuple(in_shape[1:]) == tuple(out_shape[1:]):
            layers = [nn.Conv2d(in_shape[0], out_shape[0], 1)]
        else:
            layers = [nn.Linear(math.prod(in_shape), math.prod(out_shape))]
            if len(in_shape) > 1:
                layers.insert(0, nn.Flatten())
            if len(out_shape) > 1:
                layers.append(nn.Unflatten(1, tuple(out_shape)))
        super().__init__(in_shape, out_shape, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Parameters (..., *out_shape), in float32 under autocast too: log-probabilities and KLs need its digits."""
        parameters = super().forward(x)
        return parameters.float() if parameters.dtype in (torch.bfloat16, torch.float16) else parameters

    @torch.no_grad()
    def set_bias(self, value: Tensor) -> None:
        """Start at `value`, of `out_shape`; a convolution, with one bias a channel, at its mean over the pixels."""
        last = next(layer for layer in self.layers.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
        assert last.bias is not None
        last.bias.copy_(value.mean(dim=(-2, -1)) if isinstance(last, nn.Conv2d) else value.flatten())
