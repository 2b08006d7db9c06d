"""Encoders with one set of features for each level of a hierarchy.

Shapes: B batch, C H W image, W width, h w height and width of a map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.errors import boolean
from nelbo.nets.base import activation_class
from nelbo.nets.blocks import DenseBlock, Stack
from nelbo.nets.conv import channels_last
from nelbo.nets.residual_conv import kernel_size, stack_maker


class Pyramid(nn.Module):
    """The deterministic upward pass of a hierarchy: from images to the features of every level, top first.

    Stages run from the bottom up, each on the output of the one before. Levels that share a stage share its features.

    Args:
        in_shape: shape of the images, (C, H, W).
        stages: the stages, bottom first, from (B, ...) to (B, ...).
        top: makes the top level's features of the output of the last stage.
        top_shape: their shape.
        stage_of: for each level below the top, from the top, the number of its stage.
        center: whether to subtract the mean training image.

    Raises:
        ConfigError: if `center` is not true or false.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        stages: Sequence[nn.Module],
        top: nn.Module,
        top_shape: Sequence[int],
        stage_of: Sequence[int],
        *,
        center: bool,
    ) -> None:
        super().__init__()
        self.stages, self.top = nn.ModuleList(stages), top
        self.top_shape, self.stage_of = tuple(top_shape), tuple(stage_of)
        self.register_buffer("mean", torch.zeros(tuple(in_shape)) if boolean("center", center) else None)
        self.mean: Tensor | None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of every level, top first, (B, ...) each, of images (B, C, H, W)."""
        features, outputs = x if self.mean is None else x - self.mean, []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return [self.top(features), *(outputs[number] for number in self.stage_of)]

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the mean image from training images (N, C, H, W), if it is subtracted."""
        if self.mean is not None:
            self.mean.copy_(images.mean(dim=0))


def dense_pyramid(
    in_shape: Sequence[int],
    levels: int,
    *,
    width: int,
    hidden: int | None,
    depth: int,
    activation: str,
    center: bool,
    checkpoint_activations: bool,
) -> Pyramid:
    """Return a pyramid of fully connected stages, one for each level, with features (B, W).

    Args:
        in_shape: shape of the images, (C, H, W).
        levels: number of levels, with the top one.
        width: W.
        hidden: number of features within a block; None for W.
        depth: residual blocks in the lowest stage; the others have one block each.
        activation: name of an activation class of torch.nn.
        center: whether to subtract the mean training image.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
    """
    total = depth + levels - 1

    def stack(count: int) -> Stack:
        blocks = [DenseBlock(width, hidden=hidden, activation=activation, depth=total) for _ in range(count)]
        return Stack(blocks, checkpoint_activations=checkpoint_activations)

    lowest = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), width), stack(depth))
    stages = [lowest, *(stack(1) for _ in range(levels - 1))]
    stage_of = list(range(levels - 1))[::-1]  # the lowest level, the last one, has the lowest stage
    return Pyramid(in_shape, stages, activation_class(activation)(), (width,), stage_of, center=center)


def conv_pyramid(
    in_shape: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    maps: Sequence[tuple[int, int, int]],
    stage_of: Sequence[int],
    *,
    depth: int,
    form: str,
    top_width: int,
    activation: str,
    center: bool,
    checkpoint_activations: bool,
) -> Pyramid:
    """Return a pyramid of convolutions with one stage for each resolution of the layout, from the largest down.

    Strided convolutions halve the image to the largest resolution of the layout, and between resolutions. The widths
    grow by a factor of 4 with each halving up to that of the first stage.

    Args:
        in_shape: shape of the images, (C, H, W).
        sizes: height and width of the image before the first and after each halving.
        maps: shape of the features of each stage, (W, h, w), the largest map first; a 1x1 map is a vector of the map
            before it.
        stage_of: for each level below the top, from the top, the number of its stage.
        depth: residual blocks of each stage.
        form: the convolutions in a block, see `nelbo.nets.blocks.ConvBlock`.
        top_width: number of features of the top level.
        activation: name of an activation class of torch.nn.
        center: whether to subtract the mean training image.
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
    """
    stacks = stack_maker(depth * len(maps), form, activation, "scaled", checkpoint_activations)
    act = activation_class(activation)
    stages: list[nn.Module] = []
    shape = tuple(in_shape)
    for width, *size in maps:
        target = (width, *size)
        down = halvings(shape, target, sizes, first=not stages, act=act)
        stages.append(channels_last([*down, stacks(width, depth, (size[0], size[1]))]))
        shape = target
    top = nn.Sequential(
        act(),
        nn.Flatten(),
        nn.Linear(math.prod(shape), top_width),
        DenseBlock(top_width, activation=activation, depth=1),
        act(),
    )
    return Pyramid(in_shape, stages, top, (top_width,), stage_of, center=center)


def halvings(
    shape: Sequence[int], target: Sequence[int], sizes: Sequence[tuple[int, int]], *, first: bool, act: type[nn.Module]
) -> list[nn.Module]:
    """Return the strided convolutions from a map to a smaller one, each after an activation except on the image.

    Args:
        shape: (C, h, w) of the map, or of the image.
        target: (C, h, w) of the result; a 1x1 result takes the whole map at once.
        sizes: height and width of the image before the first and after each halving.
        first: whether the map is the image.
        act: class of the activation.
    """
    width, size = target[0], tuple(target[1:])
    if size == (1, 1) and not first:
        return [act(), nn.Conv2d(shape[0], width, tuple(shape[1:]))]  # type: ignore[arg-type]
    steps = [*sizes[sizes.index((shape[1], shape[2])) : sizes.index((size[0], size[1]))]]
    layers: list[nn.Module] = []
    if not steps:
        return [nn.Conv2d(shape[0], width, kernel_size((shape[1], shape[2])), padding="same")]
    fan_out = shape[0]
    for number, (height, length) in enumerate(steps):
        left = len(steps) - 1 - number
        fan_in = fan_out
        fan_out = max(1, width // 4**left) if first else width
        if number or not first:
            layers.append(act())
        kernel, margin = (4, 1) if first else (2, 0)
        padding = (margin + height % 2, margin + length % 2)  # an odd number of pixels is halved rounding up
        layers.append(nn.Conv2d(fan_in, fan_out, kernel, stride=2, padding=padding))
    return layers
