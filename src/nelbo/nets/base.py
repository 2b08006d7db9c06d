"""The base class of networks, and helpers for their constructors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nelbo.errors import ConfigError, positive_integer

Shape = tuple[int, ...]


class Net(nn.Module):
    """A network from tensors of `in_shape` to features of `out_shape`, with any leading dimensions.

    Args:
        in_shape: shape of one input.
        out_shape: shape of its features.
        layers: a module from (M, *in_shape) to (M, *out_shape).
    """

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], layers: nn.Module) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return features (..., *out_shape) of x (..., *in_shape)."""
        return over_leading(self.layers, x, len(self.in_shape))

    def initialize(self, images: Tensor) -> None:
        """Set starting values from training images, for an encoder that has some; here there are none.

        Args:
            images: (N, C, H, W), in [0, 1].
        """


def over_leading(module: nn.Module, x: Tensor, event_dimensions: int) -> Tensor:
    """Apply a module that takes one batch dimension to a tensor with any leading dimensions.

    Args:
        module: a module from (M, *event) to (M, *out).
        x: (..., *event).
        event_dimensions: number of dimensions of the event.

    Returns:
        A tensor (..., *out).
    """
    leading, event = x.shape[: x.ndim - event_dimensions], x.shape[x.ndim - event_dimensions :]
    y: Tensor = module(x if len(leading) == 1 else x.reshape(-1, *event))
    return y if len(leading) == 1 else y.reshape(*leading, *y.shape[1:])


def activation_class(name: str) -> type[nn.Module]:
    """Return the activation class of torch.nn with a given name, such as ReLU.

    Raises:
        ConfigError: if torch.nn has no such activation.

    Example:
        >>> activation_class("SiLU")
        <class 'torch.nn.modules.activation.SiLU'>
    """
    activations = {"Identity": nn.Identity} | vars(nn.modules.activation)
    candidate = activations.get(name) if isinstance(name, str) else None
    if not (isinstance(candidate, type) and issubclass(candidate, nn.Module)):
        raise ConfigError("activation", name, "must be an activation class of torch.nn, such as ReLU, Tanh or Identity")
    return candidate


def widths(key: str, values: Sequence[int], *, at_least: int = 0) -> list[int]:
    """Return layer widths from the config after checking them.

    Args:
        key: name of the parameter, for error messages.
        values: a list of positive whole numbers.
        at_least: minimum length of the list.

    Raises:
        ConfigError: if `values` is not such a list.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(key, values, "must be a list of whole numbers, such as [200,200]")
    if len(values) < at_least:
        raise ConfigError(key, list(values), f"must be a list of length {at_least} or more")
    return [positive_integer(f"{key}[{index}]", value) for index, value in enumerate(values)]
