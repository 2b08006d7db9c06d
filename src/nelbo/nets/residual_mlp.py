"""A fully connected network of residual blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from nelbo.errors import positive_integer
from nelbo.nets.base import activation_class
from nelbo.nets.blocks import DenseBlock, Stack
from nelbo.nets.centering import CenteredNet, refuse_center_of_decoder


class ResidualMLP(CenteredNet):
    """A linear layer on the flattened input, residual blocks on vectors of a fixed width, and an activation.

    The blocks are `nelbo.nets.DenseBlock` in the pre-activation form, so each adds two linear layers.

    Args:
        in_shape: shape of one input.
        target_shape: shape of the image that a decoder generates; only used to refuse `center`.
        width: number of features, of the blocks and of the result.
        depth: number of blocks.
        hidden: number of features within a block; None for `width`.
        activation: name of an activation class of torch.nn.
        last: how the last layer of a block starts: `scaled` or `zero`, see `nelbo.nets.blocks.LAST`.
        center: whether to subtract the mean training image, for encoders.
        checkpoint_activations: whether activations within the blocks are computed again in the backward pass instead of
            stored, see `nelbo.nets.blocks.Stack`.

    Raises:
        ConfigError: if a number is not positive and whole, a name is unknown, or a decoder is given `center=True`.

    Example:
        >>> net = ResidualMLP((1, 28, 28), width=400, depth=2, hidden=None, activation="GELU", last="scaled",
        ...                   center=True, checkpoint_activations=False)
        >>> net.out_shape
        (400,)
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        target_shape: Sequence[int] | None = None,
        *,
        width: int,
        depth: int,
        hidden: int | None,
        activation: str,
        last: str,
        center: bool,
        checkpoint_activations: bool,
    ) -> None:
        refuse_center_of_decoder(center, target_shape)
        act = activation_class(activation)
        blocks = [
            DenseBlock(width, hidden=hidden, activation=activation, depth=depth, last=last)
            for _ in range(positive_integer("depth", depth))
        ]
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        layers += [nn.Linear(math.prod(in_shape), width), Stack(blocks, checkpoint_activations=checkpoint_activations)]
        super().__init__(in_shape, (width,), nn.Sequential(*layers, act()), center=center)
