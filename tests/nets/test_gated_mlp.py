"""The network of gated units."""

import pytest
import torch
from torch import nn

from nelbo.errors import ConfigError
from nelbo.nets import GatedMLP


def test_a_layer_is_a_linear_map_times_its_gate() -> None:
    net, x = GatedMLP((2, 3), hidden=[4, 5], center=False), torch.randn(7, 2, 3)
    h = x.flatten(1)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            (w, v), (b, c) = layer.weight.chunk(2), layer.bias.chunk(2)
            h = (h @ w.T + b) * torch.sigmoid(h @ v.T + c)
    torch.testing.assert_close(net(x), h)
    assert net.out_shape == (5,) and net(torch.randn(3, 7, 2, 3)).shape == (3, 7, 5)
    net(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


def test_invalid_widths_raise() -> None:
    with pytest.raises(ConfigError, match=r"hidden\[1\]=0"):
        GatedMLP((4,), hidden=[3, 0], center=False)
