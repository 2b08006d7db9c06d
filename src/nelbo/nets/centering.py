"""Networks that may subtract the mean training image from their input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError, boolean
from nelbo.nets.base import Net


class CenteredNet(Net):
    """A network that subtracts the mean training image m from its input: features of x - m.

    Pixels are not negative, so the gradients of all weights of a unit in the first layer have the same sign for an
    image, which slows learning; those of centred pixels do not (LeCun et al. 1998, section 4.3).

    `initialize` sets m; until then it is 0. It is a buffer, `mean`: checkpoints contain it, and `init_from` takes it
    together with the weights, which were learned with it. Without centring there is no buffer.

    Args:
        in_shape: shape of one input.
        out_shape: shape of its features.
        layers: a module from (M, *in_shape) to (M, *out_shape).
        center: whether to subtract m.

    Raises:
        ConfigError: if `center` is not true or false.

    Example:
        >>> net = CenteredNet((1, 2, 2), (4,), nn.Flatten(), center=True)
        >>> images = torch.rand(100, 1, 2, 2)
        >>> net.initialize(images)
        >>> torch.allclose(net(images).mean(dim=0), torch.zeros(4), atol=1e-6)
        True
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], layers: nn.Module, *, center: bool) -> None:
        super().__init__(in_shape, out_shape, layers)
        self.register_buffer("mean", torch.zeros(self.in_shape) if boolean("center", center) else None)
        self.mean: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """Return features (..., *out_shape) of x (..., *in_shape)."""
        return super().forward(x if self.mean is None else x - self.mean)

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the mean image from training images (N, *in_shape), if the network subtracts it."""
        if self.mean is not None:
            self.mean.copy_(images.mean(dim=0))


def refuse_center_of_decoder(center: object, target_shape: Sequence[int] | None) -> None:
    """Refuse centring in a network that is used as a decoder, whose input is a code and no image.

    Args:
        center: the option of that name.
        target_shape: the shape of the image to generate, which only decoders are given.

    Raises:
        ConfigError: if `center` is true and `target_shape` is not None.
    """
    if center is True and target_shape is not None:
        raise ConfigError("center", center, "is for encoders, whose input is an image; a decoder needs center=false")
