"""A fully connected network of gated units."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from nelbo.nets.base import widths
from nelbo.nets.centering import CenteredNet, refuse_center_of_decoder


class GatedMLP(CenteredNet):
    """Layers of gated units on the flattened input: h = (W x + b) * sigmoid(V x + c) (Dauphin et al. 2017, eq. 1).

    They have no other activation, as in the networks of Tomczak & Welling 2018 (section 5.1). A layer has twice the
    weights of one in `nelbo.nets.MLP`.

    Args:
        in_shape: shape of one input.
        target_shape: shape of the image that a decoder generates; only used to refuse `center`.
        hidden: widths of the layers.
        center: whether to subtract the mean training image, for encoders.

    Raises:
        ConfigError: if a width is not a positive whole number, or a decoder is given `center=True`.

    Example:
        >>> GatedMLP((1, 28, 28), hidden=[300, 300], center=True).out_shape
        (300,)
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        target_shape: Sequence[int] | None = None,
        *,
        hidden: Sequence[int],
        center: bool,
    ) -> None:
        refuse_center_of_decoder(center, target_shape)
        sizes = [math.prod(in_shape), *widths("hidden", hidden)]
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        for size, next_size in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(size, 2 * next_size), nn.GLU()]  # W x + b and V x + c in one product
        super().__init__(in_shape, (sizes[-1],), nn.Sequential(*layers), center=center)
