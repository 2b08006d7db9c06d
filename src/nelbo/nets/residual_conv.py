"""Convolutional encoder and decoder of residual blocks, for images of any size and number of channels.

Nothing is convolved at the full resolution of the image. There, a 3x3 convolution of 16 channels would cost as much as
one of 64 channels at a quarter of the height and width, and its activations would need most of the memory. The encoder
begins with a strided convolution. The last convolution of the decoder is at half the resolution (or a quarter), and a
pixel shuffle moves its channels to pixels (Shi et al. 2016, section 3.2).

Shapes: C H W image, h w height and width of features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from nelbo.errors import ConfigError, choice, integer, positive_integer
from nelbo.nets.base import Net, activation_class, widths
from nelbo.nets.blocks import FORMS, LAST, ConvBlock, Stack
from nelbo.nets.centering import CenteredNet
from nelbo.nets.conv import channels_last, halved_sizes

UPSAMPLINGS = ("shuffle", "nearest", "transposed")
"""How a decoder doubles height and width."""

RESOLUTIONS = {"half": 1, "quarter": 2}
"""The largest resolution at which a decoder convolves, and by how many halvings of the image it is reached."""

Stacks = Callable[[int, int, tuple[int, int]], Stack]
"""A function from channels, a number of blocks, and their height and width to a stack of these blocks."""


class ResidualConvEncoder(CenteredNet):
    """4x4 convolutions of stride 2, each followed by residual blocks and an activation; the features are an image.

    Each convolution halves height and width, rounding up. The blocks are `nelbo.nets.ConvBlock` in the pre-activation
    form, with 3x3 kernels.

    Args:
        in_shape: shape of the image, (C, H, W).
        channels: number of output channels of each strided convolution, and of the blocks after it.
        depth: number of blocks after each strided convolution, as many numbers as `channels`.
        form: the convolutions in a block: `light` or `bottleneck`, see `nelbo.nets.ConvBlock`.
        activation: name of an activation class of torch.nn.
        last: how the last layer of a block starts: `scaled` or `zero`, see `nelbo.nets.blocks.LAST`.
        center: whether to subtract the mean training image.
        checkpoint_activations: whether activations within the blocks are computed again in the backward pass instead of
            stored, see `nelbo.nets.blocks.Stack`.

    Raises:
        ConfigError: if an option is invalid, or the input is not an image or too small for the number of convolutions.

    Example:
        >>> net = ResidualConvEncoder((1, 28, 28), channels=[16, 64], depth=[0, 2], form="light", activation="GELU",
        ...                           last="scaled", center=True, checkpoint_activations=False)
        >>> net.out_shape
        (64, 7, 7)
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        *,
        channels: Sequence[int],
        depth: Sequence[int],
        form: str,
        activation: str,
        last: str,
        center: bool,
        checkpoint_activations: bool,
    ) -> None:
        channels = widths("channels", channels, at_least=1)
        counts, act = block_counts(depth, channels), activation_class(activation)
        sizes = halved_sizes(in_shape, len(channels), channels)
        stacks = stack_maker(sum(counts), form, activation, last, checkpoint_activations)
        layers: list[nn.Module] = []
        fans = zip([in_shape[0], *channels], channels, strict=False)
        for (fan_in, fan_out), count, (height, width), size in zip(fans, counts, sizes, sizes[1:], strict=False):
            padding = (1 + height % 2, 1 + width % 2)  # an odd number of pixels is halved rounding up
            layers += [nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=padding), stacks(fan_out, count, size), act()]
        super().__init__(in_shape, (channels[-1], *sizes[-1]), channels_last(layers), center=center)


class ResidualConvDecoder(Net):
    """Residual blocks at resolutions up to half that of the image (or a quarter), then a pixel shuffle.

    A linear layer maps the code to an image of the lowest resolution; if the code is already an image of its height and
    width, a 1x1 convolution does. At each resolution follow residual blocks and an activation, then the upsampling:

    - `shuffle`: a 1x1 convolution to four times the channels, which a pixel shuffle moves to a block of 2x2 pixels;
    - `nearest`: a 1x1 convolution and nearest-neighbour upsampling;
    - `transposed`: a transposed 4x4 convolution.

    At the largest resolution, a 3x3 convolution to 4 or 16 times `features` channels and a pixel shuffle give the
    result. Images are cropped at the bottom and on the right where upsampling makes them too large.

    The likelihood head projects the features by a 1x1 convolution to its parameters, the only layer at full resolution.
    Its cost is proportional to `features`, so they should be few: about 4 for binary or grey pixels, 8 for colours or
    for likelihoods with many parameters per pixel. No activation follows the pixel shuffle, so the parameters are
    linear in the activations at the largest resolution below it.

    Args:
        in_shape: shape of the code, (D,), (N, K) or (D, h, w).
        target_shape: shape of the image, (C, H, W).
        channels: number of channels at each resolution, from the lowest.
        depth: number of blocks at each resolution, as many numbers as `channels`.
        form: the convolutions in a block: `light` or `bottleneck`, see `nelbo.nets.ConvBlock`.
        upsampling: `shuffle`, `nearest` or `transposed`.
        resolution: that of the last 3x3 convolution, `half` or `quarter` of the image's height and width.
        features: number of channels of the result, which has the height and width of the image.
        activation: name of an activation class of torch.nn.
        last: how the last layer of a block starts: `scaled` or `zero`, see `nelbo.nets.blocks.LAST`.
        checkpoint_activations: whether activations within the blocks are computed again in the backward pass instead of
            stored, see `nelbo.nets.blocks.Stack`.

    Raises:
        ConfigError: if an option is invalid, or the target is not an image or too small for the number of resolutions.

    Example:
        >>> net = ResidualConvDecoder((40,), (1, 28, 28), channels=[64, 16], depth=[2, 1], form="light",
        ...                           upsampling="shuffle", resolution="half", features=4, activation="GELU",
        ...                           last="scaled", checkpoint_activations=False)
        >>> net.out_shape
        (4, 28, 28)
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        target_shape: Sequence[int],
        *,
        channels: Sequence[int],
        depth: Sequence[int],
        form: str,
        upsampling: str,
        resolution: str,
        features: int,
        activation: str,
        last: str,
        checkpoint_activations: bool,
    ) -> None:
        channels = widths("channels", channels, at_least=1)
        counts, act = block_counts(depth, channels), activation_class(activation)
        halvings = RESOLUTIONS[choice("resolution", resolution, list(RESOLUTIONS))]
        choice("upsampling", upsampling, UPSAMPLINGS)
        positive_integer("features", features)
        sizes = halved_sizes(target_shape, len(channels) - 1 + halvings, channels)[::-1]
        stacks = stack_maker(sum(counts), form, activation, last, checkpoint_activations)
        layers = first_layers(in_shape, channels[0], sizes[0])
        for index, (fan_in, count, size) in enumerate(zip(channels, counts, sizes, strict=False)):
            if index > 0:
                layers += [*upsampling_layers(channels[index - 1], fan_in, upsampling), Crop(size)]
            layers += [stacks(fan_in, count, size), act()]
        factor, kernel = 2**halvings, kernel_size(sizes[len(channels) - 1])
        layers.append(nn.Conv2d(channels[-1], features * factor**2, kernel, padding=kernel // 2))
        layers += [nn.PixelShuffle(factor), Crop(sizes[-1])]
        super().__init__(in_shape, (features, *target_shape[1:]), channels_last(layers))


class ToImage(nn.Module):
    """Vectors (N, h w C) as images (N, C, h, w) in the memory format channels_last, without copying.

    Args:
        shape: (C, h, w).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the images."""
        channels, height, width = self.shape
        return x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


class Crop(nn.Module):
    """Images (N, C, ...) without the rows at the bottom and the columns on the right beyond a size.

    Args:
        size: height and width of the result.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Return the cropped images; x itself if it has the size."""
        height, width = self.size
        return x if x.shape[2:] == self.size else x[..., :height, :width]


def first_layers(in_shape: Sequence[int], channels: int, size: tuple[int, int]) -> list[nn.Module]:
    """Return the layers from a code to an image (N, channels, *size): a 1x1 convolution, or a linear layer."""
    if tuple(in_shape[1:]) == size:
        return [nn.Conv2d(in_shape[0], channels, 1)]
    linear = nn.Linear(math.prod(in_shape), channels * math.prod(size))
    return [nn.Flatten(), linear, ToImage((channels, *size))]


def upsampling_layers(fan_in: int, fan_out: int, kind: str) -> list[nn.Module]:
    """Return the layers that double height and width, for a kind among `UPSAMPLINGS`."""
    if kind == "transposed":
        return [nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1)]
    if kind == "nearest":
        return [nn.Conv2d(fan_in, fan_out, 1), nn.UpsamplingNearest2d(scale_factor=2)]
    return [nn.Conv2d(fan_in, 4 * fan_out, 1), nn.PixelShuffle(2)]


def block_counts(depth: Sequence[int], channels: Sequence[int]) -> list[int]:
    """Return the number of blocks for each of the channels, after checking it.

    Raises:
        ConfigError: if `depth` is not a list of as many whole numbers of at least 0.
    """
    if isinstance(depth, str) or not isinstance(depth, Sequence) or len(depth) != len(channels):
        hint = f"must be a list of {len(channels)} numbers of blocks, one for each of channels={list(channels)}"
        raise ConfigError("depth", depth, hint)
    return [integer(f"depth[{index}]", count, minimum=0) for index, count in enumerate(depth)]


def kernel_size(size: tuple[int, int]) -> int:
    """Return the kernel size at a height and width: 3, or 1 for a single pixel, which has no neighbours."""
    return 3 if max(size) > 1 else 1


def stack_maker(total: int, form: str, activation: str, last: str, checkpoint_activations: bool) -> Stacks:
    """Return a function that makes the stacks of a network with `total` blocks, after checking the options."""
    choice("form", form, FORMS)
    choice("last", last, LAST)
    block = partial(ConvBlock, activation=activation, form=form, depth=max(1, total), last=last)

    def make(channels: int, count: int, size: tuple[int, int]) -> Stack:
        blocks = [block(channels, kernel_size=kernel_size(size)) for _ in range(count)]
        return Stack(blocks, checkpoint_activations=checkpoint_activations)

    return make
