"""What every net is, and the one helper for leading dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nelbo.errors import ConfigError, positive_integer

Shape = tuple[int, ...]


class Net(nn.Module):
    """A tensor of `in_shape` to features of `out_shape`, for any leading dimensions."""

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int], layers: nn.Module) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., *out_shape) of x (..., *in_shape)."""
        return over_leading(self.layers, x, len(self.in_shape))


def over_leading(module: nn.Module, x: Tensor, event_dimensions: int) -> Tensor:
    """Apply `module`, which takes one batch dimension, to x with any leading dimensions."""
    leading, event = x.shape[: x.ndim - event_dimensions], x.shape[x.ndim - event_dimensions :]
    y: Tensor = module(x if len(leading) == 1 else x.reshape(-1, *event))
    return y if len(leading) == 1 else y.reshape(*leading, *y.shape[1:])


def activation_class(name: str) -> type[nn.Module]:
    """An activation of torch.nn by its class name, such as ReLU.

    Raises:
        ConfigError: if torch.nn has no such activation.
    """
    activations = {"Identity": nn.Identity} | vars(nn.modules.activation)
    candidate = activations.get(name) if isinstance(name, str) else None
    if not (isinstance(candidate, type) and issubclass(candidate, nn.Module)):
        raise ConfigError("activation", name, "must be an activation class of torch.nn, such as ReLU, Tanh or Identity")
    return candidate


def widths(key: str, values: Sequence[int], *, at_least: int = 0) -> list[int]:
    """Layer widths from the config, each a positive whole number; `at_least` so many.

    Raises:
        ConfigError: if it is not a list of them.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(key, values, "must be a list of whole numbers, such as [200,200]")
    if len(values) < at_least:
        raise ConfigError(key, list(values), f"must hold at least {at_least} of them")
    return [positive_integer(f"{key}[{index}]", value) for index, value in enumerate(values)]
