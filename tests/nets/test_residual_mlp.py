"""The residual network of linear layers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from nelbo.errors import ConfigError
from nelbo.nets import ResidualMLP

make = partial(
    ResidualMLP,
    width=6,
    depth=3,
    hidden=None,
    activation="SiLU",
    last="scaled",
    center=False,
    checkpoint_activations=False,
)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_features_have_the_width_for_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    net = make(shape, hidden=4)
    for leading in ((), (2,), (2, 3)):
        assert net(torch.rand(*leading, *shape)).shape == (*leading, 6)
    assert net.out_shape == (6,)
    net(torch.rand(5, *shape)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


def test_it_starts_as_one_layer_if_the_last_layers_of_its_blocks_are_zero() -> None:
    net, x = make((4,), last="zero"), torch.randn(5, 4)
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(net(x), nn.functional.silu(first(x)))


def test_recomputed_activations_change_neither_parameters_nor_gradients() -> None:
    stored, recomputed = (make((4,), checkpoint_activations=choice) for choice in (False, True))
    recomputed.load_state_dict(stored.state_dict())
    x, gradients = torch.randn(5, 4), []
    for net in (stored, recomputed):
        net(x).square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert all(map(torch.equal, *gradients))


def test_it_can_be_made_without_memory() -> None:
    with torch.device("meta"):
        net = make((1, 28, 28), width=10_000, center=True)
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"meta"}


@pytest.mark.parametrize("key", ["width", "depth", "hidden"])
def test_invalid_options_raise(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=0: must be a whole number of at least 1"):
        make((4,), **{key: 0})  # type: ignore[arg-type]
