"""Projections from features to the parameters of a distribution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nelbo.nets.base import Net
from nelbo.numerics.precision import without_autocast


class Projection(Net):
    """A learned affine map from features to parameters.

    It is a 1x1 convolution if both shapes are images of the same height and width, and a linear layer otherwise. Heads
    use it, so that they need not know the shape of the features.

    Args:
        in_shape: shape of the features.
        out_shape: shape of the parameters.

    Example:
        >>> project = Projection((16, 4, 4), (3, 4, 4))
        >>> project(torch.zeros(2, 5, 16, 4, 4)).shape
        torch.Size([2, 5, 3, 4, 4])
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
        self.register_parameter("pixel_bias", None)
        self.pixel_bias: nn.Parameter | None

    def add_pixel_bias(self) -> None:
        """Add a learned bias for each pixel, where a convolution has only one for each channel."""
        if isinstance(self._affine, nn.Conv2d):
            self.pixel_bias = nn.Parameter(torch.zeros(self.out_shape))

    def forward(self, x: Tensor) -> Tensor:
        """Return parameters (..., *out_shape) of features (..., *in_shape).

        Under autocast they are computed in float32. Rounded to bfloat16, a mean pixel would be wrong by up to 0.002,
        which is above the smallest standard deviation of a likelihood, and most gradients by a tenth or more.
        """
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()
        with without_autocast(x.device):
            parameters = super().forward(x)
        return parameters if self.pixel_bias is None else parameters + self.pixel_bias

    @property
    def _affine(self) -> nn.Conv2d | nn.Linear:
        return next(layer for layer in self.layers.modules() if isinstance(layer, nn.Conv2d | nn.Linear))

    def shared(self, start: Tensor) -> Tensor:
        """Return initial parameters that the bias can represent.

        A convolution has one bias per channel, so this is the mean of `start` over pixels, (C, 1, 1), unless it has a
        bias for each pixel. Otherwise it is `start`.
        """
        shares = isinstance(self._affine, nn.Conv2d) and self.pixel_bias is None
        return start.mean(dim=(-2, -1), keepdim=True) if shares else start

    @torch.no_grad()
    def set_bias(self, start: Tensor, link: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Set the bias such that the parameters are `link(start)` for features of 0.

        If pixels share a bias, it is the link of their mean, and not the mean of their links: the mean of logits is not
        the logit of the mean.

        Args:
            start: initial values, `out_shape`, such as the mean image.
            link: an elementwise function from these values to parameters, such as the logit; None for the identity.

        Returns:
            `shared(start)`, the initial values before the link.
        """
        start, bias = self.shared(start), self._affine.bias
        values = start if link is None else link(start)
        if self.pixel_bias is not None:
            self.pixel_bias.copy_(values)
            return start
        assert bias is not None
        bias.copy_(values.flatten())
        return start
