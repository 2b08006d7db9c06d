"""From features to the parameters of a head: the only code that looks at a feature's shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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

    @property
    def _last(self) -> nn.Conv2d | nn.Linear:
        return next(layer for layer in self.layers.modules() if isinstance(layer, nn.Conv2d | nn.Linear))

    def shared(self, start: Tensor) -> Tensor:
        """`start`, or its mean over pixels, (C, 1, 1), if all pixels of a channel share their bias (a convolution)."""
        return start.mean(dim=(-2, -1), keepdim=True) if isinstance(self._last, nn.Conv2d) else start

    @torch.no_grad()
    def set_bias(self, start: Tensor, link: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Let the parameters start at `link(start)`, but for what the features add.

        Where pixels share a bias it is the link of their mean: the mean of the link would be another number (the mean
        of logits is not the logit of the mean).

        Args:
            start: of `out_shape`, such as the mean image.
            link: from there to parameters, element by element; None where they are the same.

        Returns:
            `shared(start)`: where the pixels start, before the link.
        """
        start, bias = self.shared(start), self._last.bias
        assert bias is not None
        bias.copy_((start if link is None else link(start)).flatten())
        return start
