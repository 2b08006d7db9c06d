"""The fully connected net."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from nelbo.nets.base import Net, activation_class, widths


class MLP(Net):
    """Flatten, then linear layers with an activation after each; with no hidden layer, the flattened input itself.

    Args:
        in_shape: shape of one example.
        target_shape: the image that a decoder's head must reach; a fully connected net has no use for it.
        hidden: widths of the layers.
        activation: a class of torch.nn, by name.

    Raises:
        ConfigError: for a width that is not a positive whole number or an activation that does not exist.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        target_shape: Sequence[int] | None = None,
        *,
        hidden: Sequence[int],
        activation: str,
    ) -> None:
        sizes = [math.prod(in_shape), *widths("hidden", hidden)]
        act = activation_class(activation)
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        for size, next_size in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(size, next_size), act()]
        super().__init__(in_shape, (sizes[-1],), nn.Sequential(*layers))
