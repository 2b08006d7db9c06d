"""A fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from nelbo.nets.base import Net, activation_class, widths


class MLP(Net):
    """Linear layers on the flattened input, each followed by the activation.

    Without hidden layers the features are the flattened input.

    Args:
        in_shape: shape of one input.
        target_shape: shape of the image that a decoder generates; not used.
        hidden: widths of the layers.
        activation: name of an activation class of torch.nn.

    Raises:
        ConfigError: if a width is not a positive whole number or the activation is unknown.

    Example:
        >>> MLP((1, 28, 28), hidden=[200, 100], activation="ReLU").out_shape
        (100,)
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
