"""Residual blocks: what they compute at the start of training, and the recomputation of their activations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError
from nelbo.nets import ConvBlock, DenseBlock
from nelbo.nets.blocks import Block, Stack

BLOCKS: dict[str, tuple[Callable[..., Block], tuple[int, ...]]] = {
    "dense": (partial(DenseBlock, 8), (5, 3, 8)),
    "dense, narrow": (partial(DenseBlock, 8, hidden=2), (5, 8)),
    "light": (partial(ConvBlock, 8), (5, 8, 4, 7)),
    "light, 5x5": (partial(ConvBlock, 8, hidden=3, kernel_size=5), (5, 8, 3, 1)),
    "bottleneck": (partial(ConvBlock, 8, form="bottleneck"), (5, 8, 4, 7)),
    "bottleneck of one channel": (partial(ConvBlock, 1, form="bottleneck", kernel_size=1), (5, 1, 1, 1)),
}
"""Blocks without their depth, and the shape of an input."""


def seeded(make: Callable[..., Block], **options: object) -> Block:
    torch.manual_seed(1)
    return make(activation="GELU", **options)


@pytest.mark.parametrize("pre_activation", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_branch_starts_at_zero_or_at_its_share_of_the_stack(name: str, pre_activation: bool) -> None:
    make, shape = BLOCKS[name]
    make, x = partial(make, pre_activation=pre_activation), torch.randn(shape)
    assert torch.equal(seeded(make, depth=3, last="zero")(x), x)
    alone = seeded(make, depth=1)(x) - x
    assert alone.abs().mean() > 1e-2
    torch.testing.assert_close(seeded(make, depth=16)(x) - x, alone / 4, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["dense", "light", "bottleneck"])
def test_the_sum_of_the_branches_does_not_grow_with_their_number(name: str) -> None:
    make, shape = BLOCKS[name]
    x = torch.randn(40, *shape[1:])
    with torch.no_grad():
        few, many = (
            Stack([make(activation="GELU", depth=depth) for _ in range(depth)], checkpoint_activations=False)(x) - x
            for depth in (4, 64)
        )
    assert 0.5 < many.std() / few.std() < 2


@pytest.mark.parametrize(("make", "shape"), [(partial(DenseBlock, 8), (5, 8)), (partial(ConvBlock, 8), (5, 8, 2, 2))])
def test_only_a_pre_activated_branch_begins_with_the_activation(
    make: Callable[..., Block], shape: tuple[int, ...]
) -> None:
    negative = -torch.rand(shape)  # ReLU maps all of it to 0
    for pre_activation in (True, False):
        block = make(activation="ReLU", pre_activation=pre_activation, depth=1)
        torch.testing.assert_close(
            block.branch(negative).isclose(block.branch(2 * negative), atol=1e-7).all(), torch.tensor(pre_activation)
        )


def test_convolutions_of_the_two_forms() -> None:
    light, bottleneck = (
        [(layer.out_channels, layer.kernel_size[0]) for layer in block.branch if isinstance(layer, nn.Conv2d)]
        for block in (ConvBlock(8, activation="ReLU", form=form, depth=1) for form in ("light", "bottleneck"))
    )
    assert light == [(4, 3), (8, 1)]
    assert bottleneck == [(2, 1), (2, 3), (2, 3), (8, 1)]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["dense", "light", "bottleneck"])
def test_recomputed_activations_give_the_same_results_and_gradients(name: str, autocast: bool) -> None:
    make, shape = BLOCKS[name]
    blocks = [make(activation="GELU", depth=3) for _ in range(3)]
    calls: list[str] = []
    for block in blocks:
        block.register_forward_pre_hook(lambda module, arguments: calls.append(name))
    results: list[list[Tensor]] = []
    for checkpoint_activations in (False, True):
        stack = Stack(blocks, checkpoint_activations=checkpoint_activations)
        x = torch.linspace(-2, 2, torch.Size(shape).numel()).reshape(shape).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = stack(x)
        y.float().square().sum().backward()
        results.append([y, *(tensor.grad for tensor in (x, *stack.parameters()) if tensor.grad is not None)])
        stack.zero_grad(set_to_none=True)
        assert len(calls) == (
            9 if checkpoint_activations else 3
        )  # three in a forward pass, three more in a backward pass
    assert len(results[0]) == 2 + len([*stack.parameters()])
    assert all(map(torch.equal, *results))


def test_activations_are_not_computed_again_where_no_gradient_is_needed() -> None:
    stack = Stack([DenseBlock(4, activation="GELU", depth=1)], checkpoint_activations=True)
    with torch.no_grad():
        assert not stack(torch.randn(2, 4)).requires_grad
    assert Stack([], checkpoint_activations=True)(torch.ones(3)).sum() == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth=0: must be a whole number of at least 1"),
        ({"last": "small"}, "last=small: must be one of scaled, zero"),
        ({"hidden": 0}, "hidden=0: must be a whole number"),
        ({"activation": "Gelu"}, "activation=Gelu: must be an activation class"),
        ({"pre_activation": 1}, "pre_activation=1: must be true or false"),
    ],
)
def test_invalid_options_raise(options: dict[str, object], message: str) -> None:
    for make in (partial(DenseBlock, 4), partial(ConvBlock, 4)):
        with pytest.raises(ConfigError, match=message):
            make(**{"activation": "GELU", "depth": 1, **options})  # type: ignore[arg-type]


def test_invalid_convolutions_and_widths_raise() -> None:
    with pytest.raises(ConfigError, match="kernel_size=4: must be odd"):
        ConvBlock(4, kernel_size=4, activation="GELU", depth=1)
    with pytest.raises(ConfigError, match="form=wide: must be one of light, bottleneck"):
        ConvBlock(4, form="wide", activation="GELU", depth=1)
    with pytest.raises(ConfigError, match="channels=0: must be a whole number"):
        ConvBlock(0, hidden=2, activation="GELU", depth=1)
    with pytest.raises(ConfigError, match="width=0: must be a whole number"):
        DenseBlock(0, hidden=2, activation="GELU", depth=1)
    with pytest.raises(ConfigError, match="checkpoint_activations=yes: must be true or false"):
        Stack([], checkpoint_activations="yes")  # type: ignore[arg-type]
