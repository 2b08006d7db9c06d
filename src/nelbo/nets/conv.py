"""Convolutional networks for images of any size and number of channels.

Each layer halves the height and width, rounding up; a transposed layer with suitable output padding restores them.

Shapes: C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from nelbo.errors import ConfigError
from nelbo.nets.base import Net, activation_class, widths

NEEDS_IMAGES = (
    "a convolution needs an image of shape [channels, height, width]; of vectors use model=mlp_vae, residual_mlp_vae, "
    "linear_vae or ladder_vae"
)


def halved_sizes(shape: Sequence[int], layers: int, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Return the height and width of an image before the first and after each of `layers` halvings.

    Args:
        shape: shape of the image, (C, H, W).
        layers: number of halvings.
        channels: channels of the network's layers, for error messages.

    Raises:
        ConfigError: if the shape is not that of an image, or a side is 1 before the last halving.

    Example:
        >>> halved_sizes((1, 28, 28), 3, [32, 64, 64])
        [(28, 28), (14, 14), (7, 7), (4, 4)]
    """
    if len(shape) != 3:
        raise ConfigError("shape", list(shape), NEEDS_IMAGES)
    sizes = [(shape[1], shape[2])]
    for _ in range(layers):
        height, width = sizes[-1]
        if min(height, width) < 2:
            fits = math.ceil(math.log2(min(shape[1:]))) if min(shape[1:]) > 1 else 0
            hint = f"images of {shape[1]}x{shape[2]} can be halved {fits} times, not {layers} times; give fewer"
            raise ConfigError("channels", list(channels), hint)
        sizes.append((-(-height // 2), -(-width // 2)))
    return sizes


def channels_last(layers: Sequence[nn.Module]) -> nn.Module:
    """Return the layers in sequence, in the memory format channels_last: 1.2 to 1.4 times faster on 2 CPU cores."""
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class ConvEncoder(Net):
    """3x3 convolutions of stride 2, each followed by the activation; the features are an image.

    Args:
        in_shape: shape of the image, (C, H, W).
        channels: number of output channels of each layer.
        activation: name of an activation class of torch.nn.

    Raises:
        ConfigError: if the input is not an image or is too small for the number of layers.

    Example:
        >>> net = ConvEncoder((1, 28, 28), channels=[32, 64], activation="SiLU")
        >>> net.out_shape
        (64, 7, 7)
    """

    def __init__(self, in_shape: Sequence[int], *, channels: Sequence[int], activation: str) -> None:
        channels = widths("channels", channels, at_least=1)
        act = activation_class(activation)
        sizes = halved_sizes(in_shape, len(channels), channels)
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip([in_shape[0], *channels], channels, strict=False):
            layers += [nn.Conv2d(fan_in, fan_out, 3, stride=2, padding=1), act()]
        super().__init__(in_shape, (channels[-1], *sizes[-1]), channels_last(layers))


class ConvDecoder(Net):
    """A linear layer, then transposed 3x3 convolutions up to the height and width of the target image.

    The features have the last number of `channels`; the likelihood head projects them to those of the image. If the
    code is already an image with the initial height and width, a 1x1 convolution replaces the linear layer.

    Args:
        in_shape: shape of the code, (D,), (N, K) or (D, h, w).
        target_shape: shape of the image, (C, H, W).
        channels: number of input channels of each transposed convolution, and of the features.
        activation: name of an activation class of torch.nn.

    Raises:
        ConfigError: if the target is not an image or is too small for the number of layers.

    Example:
        >>> net = ConvDecoder((10,), (1, 28, 28), channels=[64, 32, 16], activation="SiLU")
        >>> net.out_shape
        (16, 28, 28)
    """

    def __init__(
        self, in_shape: Sequence[int], target_shape: Sequence[int], *, channels: Sequence[int], activation: str
    ) -> None:
        channels = widths("channels", channels, at_least=1)
        act = activation_class(activation)
        sizes = halved_sizes(target_shape, len(channels) - 1, channels)[::-1]
        start = (channels[0], *sizes[0])
        layers: list[nn.Module]
        if tuple(in_shape[1:]) == sizes[0]:
            layers = [nn.Conv2d(in_shape[0], channels[0], 1), act()]
        else:
            layers = [nn.Flatten(), nn.Linear(math.prod(in_shape), math.prod(start)), act(), nn.Unflatten(1, start)]
        pairs = zip(channels, channels[1:], sizes, sizes[1:], strict=False)
        for fan_in, fan_out, (height, width), (next_height, next_width) in pairs:
            # A transposed layer yields 2n - 1 pixels; output padding adds one more if the size is even.
            padding = (next_height - (2 * height - 1), next_width - (2 * width - 1))
            layers += [nn.ConvTranspose2d(fan_in, fan_out, 3, stride=2, padding=1, output_padding=padding), act()]
        super().__init__(in_shape, (channels[-1], *target_shape[1:]), channels_last(layers))
