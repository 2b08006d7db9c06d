"""Shapes of networks for images of any size, and errors of their constructors."""

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.nets import MLP, ConvDecoder, ConvEncoder, Projection


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (5, 17), (9, 64), (33, 31)])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutional_networks_accept_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    shape = (channels, *size)
    encoder = ConvEncoder(shape, channels=[4, 6, 8], activation="ReLU")
    decoder = ConvDecoder((5,), shape, channels=[8, 6, 4, 3], activation="ReLU")
    for leading in ((2,), (2, 3)):
        assert encoder(torch.rand(*leading, *shape)).shape == (*leading, *encoder.out_shape)
        assert decoder(torch.rand(*leading, 5)).shape == (*leading, *decoder.out_shape)
    assert decoder.out_shape == (3, *size)


def test_invalid_options_raise() -> None:
    with pytest.raises(ConfigError, match=r"channels=\[4, 4, 4\]: images of 4x9 can be halved 2 times"):
        ConvEncoder((1, 4, 9), channels=[4, 4, 4], activation="ReLU")
    with pytest.raises(ConfigError, match="a convolution needs an image"):
        ConvDecoder((2,), (16,), channels=[4, 4], activation="ReLU")
    with pytest.raises(ConfigError, match="activation=Relu"):
        ConvEncoder((1, 8, 8), channels=[4], activation="Relu")
    with pytest.raises(ConfigError, match=r"hidden\[1\]=0"):
        MLP((4,), hidden=[3, 0], activation="ReLU")
    with pytest.raises(ConfigError, match="hidden=200"):
        MLP((4,), hidden=200, activation="ReLU")  # type: ignore[arg-type]


def test_mlp_without_hidden_layers_flattens_its_input() -> None:
    x = torch.rand(3, 2, 2)
    torch.testing.assert_close(MLP((2, 2), hidden=[], activation="Identity")(x), x.flatten(1))


@pytest.mark.parametrize(
    ("features", "out"), [((6,), (4,)), ((6,), (2, 3, 3)), ((5, 3, 3), (4,)), ((5, 3, 3), (2, 3, 3))]
)
def test_projection_has_any_output_shape_and_starts_at_the_given_bias(
    features: tuple[int, ...], out: tuple[int, ...]
) -> None:
    project = Projection(features, out)
    assert project(torch.rand(7, 2, *features)).shape == (7, 2, *out)
    value = torch.rand(out)
    project.set_bias(value)
    at_zero = project(torch.zeros(1, *features))[0]
    convolution = len(features) == len(out) == 3
    expected = value.mean((-2, -1), keepdim=True).expand(out) if convolution else value
    torch.testing.assert_close(at_zero, expected)
