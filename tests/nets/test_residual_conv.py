"""Residual convolutional networks: sizes of images, where they convolve, memory format, recomputed activations."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nelbo.errors import ConfigError
from nelbo.nets import Projection, ResidualConvDecoder, ResidualConvEncoder
from nelbo.nets.residual_conv import RESOLUTIONS, UPSAMPLINGS

encoder_of = partial(
    ResidualConvEncoder,
    channels=[4, 6],
    depth=[0, 2],
    form="light",
    activation="GELU",
    last="scaled",
    center=False,
    checkpoint_activations=False,
)
decoder_of = partial(
    ResidualConvDecoder,
    channels=[6, 4],
    depth=[2, 1],
    form="light",
    upsampling="shuffle",
    resolution="half",
    features=3,
    activation="GELU",
    last="scaled",
    checkpoint_activations=False,
)
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def all_gradients_are_nonzero(net: nn.Module) -> bool:
    return all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in net.parameters())


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (64, 64), (13, 17), (5, 17), (33, 31), (4, 6)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    shape = (channels, *size)
    encoder = encoder_of(shape)
    assert encoder.out_shape == (6, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    decoders = [
        decoder_of((5,), shape, upsampling=upsampling, resolution=resolution)
        for upsampling in UPSAMPLINGS
        for resolution in RESOLUTIONS
        if min(size) > 4 or resolution == "half"
    ]
    for leading in ((), (2,), (2, 3)):
        assert encoder(torch.rand(*leading, *shape)).shape == (*leading, *encoder.out_shape)
        for decoder in decoders:
            assert decoder(torch.rand(*leading, 5)).shape == (*leading, *decoder.out_shape) == (*leading, 3, *size)


@pytest.mark.parametrize("form", ["light", "bottleneck"])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_gradients_reach_all_parameters(form: str, upsampling: str) -> None:
    encoder, decoder = encoder_of((3, 13, 17), form=form), decoder_of((5,), (3, 13, 17), form=form)
    for net in (encoder, decoder):
        net(torch.randn(4, *net.in_shape)).square().sum().backward()
        assert all_gradients_are_nonzero(net)


def test_every_pixel_is_seen_and_every_pixel_is_made() -> None:
    """An odd last row or column is neither skipped by the strides nor left out by the upsampling."""
    x = torch.rand(1, 1, 13, 17, requires_grad=True)
    encoder_of((1, 13, 17))(x).square().sum().backward()
    assert x.grad is not None and x.grad.all()
    decoder = decoder_of((5,), (1, 13, 17))
    assert decoder(torch.randn(2, 5)).diff(dim=0).all()


def test_a_code_that_is_an_image_needs_no_linear_layer() -> None:
    encoder = encoder_of((1, 13, 17))
    decoder = decoder_of((2, *encoder.out_shape[1:]), (1, 13, 17))
    assert not any(isinstance(layer, nn.Linear) for layer in decoder.modules())
    assert decoder(torch.randn(4, 3, 2, 4, 5)).shape == (4, 3, 3, 13, 17)


@pytest.mark.parametrize(("resolution", "channels", "largest"), [("half", [64, 16], 14), ("quarter", [64], 7)])
def test_only_the_projection_of_the_likelihood_works_at_full_resolution(
    resolution: str, channels: list[int], largest: int
) -> None:
    shape, depth = (1, 28, 28), [2, 1][: len(channels)]
    decoder = decoder_of((40,), shape, channels=channels, depth=depth, resolution=resolution, features=4)
    project = Projection(decoder.out_shape, shape)
    for net, expected in ((encoder_of(shape), 14), (decoder, largest)):
        sizes: list[int] = []
        for layer in net.modules():
            if isinstance(layer, CONVOLUTIONS):
                layer.register_forward_hook(lambda module, inputs, output, sizes=sizes: sizes.append(output.shape[-1]))
        net(torch.rand(1, *net.in_shape))
        assert max(sizes) == expected
    with FlopCounterMode(display=False) as in_decoder:
        features = decoder(torch.randn(1, 40))
    with FlopCounterMode(display=False) as in_projection:
        project(features)
    assert in_projection.get_total_flops() == 2 * 4 * 28 * 28  # a multiplication and an addition for each feature
    assert in_projection.get_total_flops() < 0.01 * in_decoder.get_total_flops()


@pytest.mark.parametrize("size", [(16, 16), (13, 17)])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_convolutions_work_in_channels_last(size: tuple[int, int], upsampling: str) -> None:
    shape = (3, *size)
    contiguous: list[bool] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        contiguous.append(output.is_contiguous(memory_format=torch.channels_last))

    for net in (encoder_of(shape), decoder_of((5,), shape, upsampling=upsampling)):
        for layer in net.modules():
            if isinstance(layer, CONVOLUTIONS):
                assert layer.weight.is_contiguous(memory_format=torch.channels_last)
                layer.register_forward_hook(note)  # type: ignore[arg-type]
        y = net(torch.rand(2, *net.in_shape))
        assert y.stride()[1] == 1  # also where the image is cropped
    assert len(contiguous) >= 12 and all(contiguous)


@pytest.mark.parametrize("form", ["light", "bottleneck"])
def test_recomputed_activations_change_neither_parameters_nor_gradients(form: str) -> None:
    for make in (partial(encoder_of, (1, 13, 17)), partial(decoder_of, (5,), (1, 13, 17))):
        stored, recomputed = (make(form=form, checkpoint_activations=choice) for choice in (False, True))
        recomputed.load_state_dict(stored.state_dict())
        x, results = torch.randn(4, *stored.in_shape), []
        for net in (stored, recomputed):
            y = net(x)
            y.square().sum().backward()
            results.append([y, *(parameter.grad for parameter in net.parameters())])
        assert all(map(torch.equal, *results))


def test_they_can_be_made_without_memory() -> None:
    with torch.device("meta"):
        nets = encoder_of((3, 32, 32), channels=[64, 2048], center=True), decoder_of((512,), (3, 32, 32))
    assert {tensor.device.type for net in nets for tensor in net.state_dict().values()} == {"meta"}


def test_invalid_options_raise() -> None:
    shape = (1, 8, 8)
    for options, message in (
        ({"channels": [4, 4, 4, 4], "depth": [0] * 4}, r"channels=\[4, 4, 4, 4\]: images of 8x8 can be halved 3 times"),
        ({"depth": [1]}, r"depth=\[1\]: must be a list of 2 numbers of blocks, one for each of channels=\["),
        ({"depth": 2}, "depth=2: must be a list of 2 numbers of blocks"),
        ({"depth": [1, -1]}, r"depth\[1\]=-1: must be a whole number of at least 0"),
        ({"form": "wide", "depth": [0, 0]}, "form=wide: must be one of light, bottleneck"),
        ({"last": "small", "depth": [0, 0]}, "last=small: must be one of scaled, zero"),
        ({"activation": "Gelu"}, "activation=Gelu"),
    ):
        for make in (partial(encoder_of, shape), partial(decoder_of, (5,), shape)):
            with pytest.raises(ConfigError, match=message):
                make(**options)
    for options, message in (
        ({"resolution": "full"}, "resolution=full: must be one of half, quarter"),
        ({"upsampling": "bilinear"}, "upsampling=bilinear: must be one of shuffle, nearest, transposed"),
        ({"features": 0}, "features=0: must be a whole number of at least 1"),
        ({"channels": [4, 4, 4], "depth": [0] * 3, "resolution": "quarter"}, "can be halved 3 times, not 4 times"),
    ):
        with pytest.raises(ConfigError, match=message):
            decoder_of((5,), shape, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a convolution needs an image"):
        encoder_of((16,))
