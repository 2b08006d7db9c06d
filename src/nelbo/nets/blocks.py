"""Residual blocks x + f(x) for deep networks, without normalisation layers.

A branch f is a few layers with activations between them. In the pre-activation form it begins with an activation, and
nothing but sums lies on the path from the input of a stack of blocks to its output (He et al. 2016, Identity mappings).

Without normalisation, the sum over many branches would grow with their number, so the last layer of each branch starts
small: multiplied by 1/sqrt(L) in a stack of L blocks (Child 2021), or 0.

Shapes: N images, C h w their channels, height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nelbo.errors import ConfigError, boolean, choice, positive_integer
from nelbo.nets.base import activation_class

LAST = ("scaled", "zero")
"""How the last layer of a branch starts: multiplied by 1/sqrt(L), or zero, so that the block is the identity."""

FORMS = ("light", "bottleneck")
"""The convolutions of a branch."""


class Block(nn.Module):
    """x + f(x), where f is a sequence of layers whose last one starts small.

    Args:
        layers: the layers of f; the last one is linear or a convolution.
        depth: L, the number of blocks in the whole stack.
        last: `scaled` or `zero`, see `LAST`.

    Raises:
        ConfigError: if `depth` is not a positive whole number or `last` is unknown.
    """

    def __init__(self, layers: Sequence[nn.Module], *, depth: int, last: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layers)
        factor = 1 / math.sqrt(positive_integer("depth", depth))
        starts_at_zero = choice("last", last, LAST) == "zero"
        with torch.no_grad():
            for parameter in self.branch[-1].parameters():
                parameter.zero_() if starts_at_zero else parameter.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x), in the shape of x."""
        y: Tensor = x + self.branch(x)
        return y


class DenseBlock(Block):
    """x + f(x) on vectors (..., width), with f a network of two linear layers.

    Args:
        width: number of features of x.
        hidden: number of features between the two layers; None for `width`.
        activation: name of an activation class of torch.nn.
        pre_activation: whether f begins with an activation; another one is between the layers.
        depth: number of blocks in the whole stack, L.
        last: `scaled` or `zero`, see `LAST`.

    Raises:
        ConfigError: if a number is not positive and whole, or a name is unknown.

    Example:
        >>> block = DenseBlock(16, activation="GELU", depth=4, last="zero")
        >>> x = torch.randn(3, 5, 16)
        >>> torch.equal(block(x), x)  # at the start of training
        True
    """

    def __init__(
        self,
        width: int,
        *,
        hidden: int | None = None,
        activation: str,
        pre_activation: bool = True,
        depth: int,
        last: str = "scaled",
    ) -> None:
        act = activation_class(activation)
        positive_integer("width", width)
        between = width if hidden is None else positive_integer("hidden", hidden)
        layers: list[nn.Module] = [act()] if boolean("pre_activation", pre_activation) else []
        layers += [nn.Linear(width, between), act(), nn.Linear(between, width)]
        super().__init__(layers, depth=depth, last=last)


class ConvBlock(Block):
    """x + f(x) on images (N, C, h, w), of any height and width.

    There are two forms of f, here with a kernel size of 3:

    - `light`: a 3x3 convolution to `hidden` channels and a 1x1 convolution back. It is cheap: with hidden = C/2 it has
      a quarter of the multiplications of two 3x3 convolutions of C channels.
    - `bottleneck`: convolutions of 1x1, 3x3, 3x3 and 1x1, with `hidden` channels between them (Child 2021).

    An activation is between any two convolutions. The block has no memory format of its own: call
    `.to(memory_format=torch.channels_last)` on the network that contains it.

    Args:
        channels: number of channels of x, C.
        hidden: number of channels within f; None for C/2 (`light`) or C/4 (`bottleneck`), at least 1.
        kernel_size: height and width of the kernels that are not 1x1; odd.
        activation: name of an activation class of torch.nn.
        pre_activation: whether f begins with an activation.
        form: `light` or `bottleneck`.
        depth: number of blocks in the whole stack, L.
        last: `scaled` or `zero`, see `LAST`.

    Raises:
        ConfigError: if a number is not positive and whole, a name is unknown, or the kernel size is even.

    Example:
        >>> block = ConvBlock(16, activation="GELU", form="bottleneck", depth=4)
        >>> block(torch.randn(2, 16, 7, 5)).shape
        torch.Size([2, 16, 7, 5])
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden: int | None = None,
        kernel_size: int = 3,
        activation: str,
        pre_activation: bool = True,
        form: str = "light",
        depth: int,
        last: str = "scaled",
    ) -> None:
        act = activation_class(activation)
        size = positive_integer("kernel_size", kernel_size)
        if size % 2 == 0:
            raise ConfigError("kernel_size", size, "must be odd, so that the image keeps its size")
        is_light = choice("form", form, FORMS) == "light"
        between = max(1, positive_integer("channels", channels) // (2 if is_light else 4))
        between = between if hidden is None else positive_integer("hidden", hidden)
        sizes = [size, 1] if is_light else [1, size, size, 1]
        fans = [channels, *[between] * (len(sizes) - 1), channels]
        layers: list[nn.Module] = [act()] if boolean("pre_activation", pre_activation) else []
        for fan_in, fan_out, kernel in zip(fans, fans[1:], sizes, strict=False):
            layers += [nn.Conv2d(fan_in, fan_out, kernel, padding=kernel // 2), act()]
        super().__init__(layers[:-1], depth=depth, last=last)


class Stack(nn.Module):
    """Blocks in sequence, which may compute their activations a second time instead of storing them.

    With `checkpoint_activations` only the input of each block is kept for the backward pass, which repeats the block's
    forward pass (Chen et al. 2016, section 4). The results and gradients are the same to the last bit; a training step
    costs one more forward pass of the blocks. Names and values of parameters do not depend on it.

    Args:
        blocks: modules from a tensor to a tensor.
        checkpoint_activations: whether activations within the blocks are computed again.

    Raises:
        ConfigError: if `checkpoint_activations` is not true or false.
    """

    def __init__(self, blocks: Sequence[nn.Module], *, checkpoint_activations: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.checkpoint_activations = boolean("checkpoint_activations", checkpoint_activations)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the last block; x itself if there is none."""
        for block in self.blocks:
            if self.checkpoint_activations and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x
