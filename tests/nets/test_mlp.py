"""The fully connected network with sums and centring."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from nelbo.errors import ConfigError
from nelbo.nets import MLP


def test_a_residual_layer_adds_its_result_to_its_input() -> None:
    net, x = MLP((2, 2), hidden=[3, 3, 3], activation="GELU", residual=True), torch.randn(5, 2, 2)
    first, second, third = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    h = functional.gelu(first(x.flatten(1)))
    h = h + functional.gelu(second(h))
    h = h + functional.gelu(third(h))
    torch.testing.assert_close(net(x), h)
    assert net(x[None].expand(4, 5, 2, 2)).shape == (4, 5, 3)


def test_without_sums_it_is_the_network_of_earlier_checkpoints() -> None:
    plain, explicit = (
        MLP((4,), hidden=[3, 3], activation="Tanh", **options) for options in ({}, {"residual": False, "center": False})
    )
    names = ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert list(plain.state_dict()) == list(explicit.state_dict()) == names


def test_it_subtracts_the_mean_training_image() -> None:
    net, images = MLP((2, 2), hidden=[], activation="GELU", center=True), torch.rand(50, 2, 2)
    net.initialize(images)
    torch.testing.assert_close(net(images), (images - images.mean(dim=0)).flatten(1))


def test_sums_of_different_widths_and_centring_of_codes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden=\[3, 4\]: must be equal widths where residual=true"):
        MLP((4,), hidden=[3, 4], activation="GELU", residual=True)
    with pytest.raises(ConfigError, match="residual=1: must be true or false"):
        MLP((4,), hidden=[3], activation="GELU", residual=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="center=true: is for encoders"):
        MLP((4,), (1, 2, 2), hidden=[3], activation="GELU", center=True)
