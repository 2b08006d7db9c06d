"""A fully connected network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from nelbo.errors import ConfigError, boolean
from nelbo.nets.base import activation_class, widths
from nelbo.nets.centering import CenteredNet, refuse_center_of_decoder


class MLP(CenteredNet):
    """Linear layers on the flattened input, each followed by the activation.

    Without hidden layers the features are the flattened input.

    Args:
        in_shape: shape of one input.
        target_shape: shape of the image that a decoder generates; only used to refuse `center`.
        hidden: widths of the layers.
        activation: name of an activation class of torch.nn.
        residual: whether each layer after the first adds its result to its input, h + act(W h + b); all layers then
            have the same width. Configs of earlier versions lack it and `center`.
        center: whether to subtract the mean training image, for encoders.

    Raises:
        ConfigError: if a width is not a positive whole number, the activation is unknown, residual layers differ in
            width, or a decoder is given `center=True`.

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
        residual: bool = False,
        center: bool = False,
    ) -> None:
        refuse_center_of_decoder(center, target_shape)
        sizes = [math.prod(in_shape), *widths("hidden", hidden)]
        act = activation_class(activation)
        layers: list[nn.Module] = [nn.Flatten()] if len(in_shape) > 1 else []
        if boolean("residual", residual) and len(set(sizes[1:])) > 1:
            raise ConfigError("hidden", list(hidden), "must be equal widths where residual=true")
        for place, (size, next_size) in enumerate(zip(sizes, sizes[1:], strict=False)):
            layer = [nn.Linear(size, next_size), act()]
            layers += [Sum(*layer)] if residual and place else layer
        super().__init__(in_shape, (sizes[-1],), nn.Sequential(*layers), center=center)


class Sum(nn.Module):
    """x + f(x).

    Args:
        layers: the layers of f.

    Example:
        >>> Sum(nn.ReLU())(Tensor([1.0, -1.0]))
        tensor([ 2., -1.])
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x), in the shape of x."""
        y: Tensor = x + self.layers(x)
        return y
