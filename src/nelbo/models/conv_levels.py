"""Convolutional levels of a hierarchy of maps.

Shapes: W width of the stream, h w height and width of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nelbo.errors import positive_integer
from nelbo.models.ladder_vae import scale_parameters, zero_parameters
from nelbo.models.layout import Floor
from nelbo.models.level import Level
from nelbo.nets.base import activation_class
from nelbo.nets.blocks import ConvBlock
from nelbo.nets.residual_conv import ToImage, kernel_size


@dataclass(frozen=True)
class Convolutions:
    """Makes the convolutional parts of levels.

    Args:
        form: `light` or `bottleneck`.
        hidden: number of channels within blocks and heads; None for a share of the width.
        activation: name of an activation class of torch.nn.
        depth: number of levels.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.

    Raises:
        ConfigError: if `hidden` is not a positive whole number.
    """

    form: str
    hidden: int | None
    activation: str
    depth: int
    checkpoint_activations: bool

    def __post_init__(self) -> None:
        if self.hidden is not None:
            positive_integer("hidden", self.hidden)

    def levels(
        self, floors: Sequence[Floor], maps: Sequence[tuple[int, ...]], channels: int, residual: bool
    ) -> list[Level]:
        """Return the levels below the top.

        Args:
            floors: those of the layout, top first.
            maps: shape of the stream at each floor, (W, h, w).
            channels: number of channels of z.
            residual: whether q is relative to p.
        """
        levels, above = [], maps[0]
        for number, (floor, stream) in enumerate(zip(floors, maps, strict=True)):
            for _ in range(floor.levels - (number == 0)):
                enter = nn.Identity() if stream == above else Enlarge(above, stream)
                levels.append(self.level(channels, stream, enter, residual))
                above = stream
        if above != maps[-1]:  # pragma: no cover, as every floor has a level, and the first one the top
            raise AssertionError("the last floor has no level")
        return levels

    def level(self, channels: int, stream: tuple[int, ...], enter: nn.Module, residual: bool) -> Level:
        """Return a level whose z is a map of `channels` channels and the height and width of the stream."""
        width, size = stream[0], (stream[1], stream[2])
        kernel = kernel_size(size)
        merge = nn.Conv2d(channels, width, 1)
        scale_parameters(merge, 1 / math.sqrt(self.depth))
        return Level(
            (channels, *size),
            stream,
            enter=enter,
            prior=self.head(width, width, 2 * channels + width, kernel, zero=True),
            posterior=self.head(2 * width, width, 2 * channels, kernel, zero=residual),
            merge=merge,
            block=ConvBlock(
                width,
                hidden=self.hidden,
                kernel_size=kernel,
                activation=self.activation,
                form=self.form,
                depth=self.depth,
            ),
            residual=residual,
            checkpoint_activations=self.checkpoint_activations,
        )

    def head(self, inputs: int, width: int, outputs: int, kernel: int, *, zero: bool) -> nn.Module:
        """Return the convolutions of a head, from maps of `inputs` to maps of `outputs` channels.

        Args:
            inputs: number of channels that it is given.
            width: W, of which `hidden` is a share unless it is given.
            outputs: number of channels that it makes.
            kernel: height and width of the kernels that are not 1x1.
            zero: whether its last layer starts at 0.
        """
        act = activation_class(self.activation)
        is_light = self.form == "light"
        between = max(1, width // (2 if is_light else 4)) if self.hidden is None else self.hidden
        sizes = [kernel, 1] if is_light else [1, kernel, kernel, 1]
        fans = [inputs, *[between] * (len(sizes) - 1), outputs]
        layers: list[nn.Module] = []
        for fan_in, fan_out, size in zip(fans, fans[1:], sizes, strict=False):
            layers += [act(), nn.Conv2d(fan_in, fan_out, size, padding=size // 2)]
        if zero:
            zero_parameters(layers[-1])
        return nn.Sequential(*layers)


class Enlarge(nn.Module):
    """From a map to one of another size: nearest-neighbour upsampling and a learned bias at each place.

    From a single pixel, which has no neighbours, a linear layer makes the map.

    Args:
        shape: (W, h, w) of the input.
        target: (W, h, w) of the result.
    """

    def __init__(self, shape: Sequence[int], target: Sequence[int]) -> None:
        super().__init__()
        self.size = tuple(target[1:])
        self.is_pixel = tuple(shape[1:]) == (1, 1)
        if self.is_pixel:
            self.layers: nn.Module = nn.Sequential(nn.Flatten(), vector_to_map(shape[0], target))
            return
        self.layers = nn.Identity() if shape[0] == target[0] else nn.Conv2d(shape[0], target[0], 1)
        self.bias = nn.Parameter(torch.zeros(tuple(target)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (M, *target) of x (M, *shape)."""
        y: Tensor = self.layers(x)
        if self.is_pixel:
            return y
        return functional.interpolate(y, size=self.size, mode="nearest") + self.bias.to(y.dtype)


def vector_to_map(units: int, shape: Sequence[int]) -> nn.Module:
    """Return a linear layer from a vector to a map (W, h, w)."""
    return nn.Sequential(nn.Linear(units, math.prod(shape)), ToImage((shape[0], shape[1], shape[2])))
