"""Private interfaces of torch that `nelbo.numerics.compat` wraps."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from nelbo.numerics import compat

TORCH = f"torch {torch.__version__} has changed an interface that nelbo.numerics.compat wraps"
FUSED = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True),
    "adagrad": torch.optim.Adagrad,
}


@pytest.mark.parametrize("order", [2.0, math.inf])
def test_norms_are_those_of_each_tensor(order: float) -> None:
    tensors = [torch.randn(3, 4), torch.randn(5), torch.tensor([1.0, math.nan])]
    expected = torch.stack([torch.linalg.vector_norm(tensor, order) for tensor in tensors])
    torch.testing.assert_close(compat.norms(tensors, order), expected, equal_nan=True, msg=TORCH)


@pytest.mark.parametrize("name", FUSED)
def test_an_update_with_the_flag_changes_neither_parameters_nor_state(name: str) -> None:
    weight = torch.nn.Parameter(torch.randn(7))
    make = FUSED[name]
    optimizer = make([weight]) if name == "sgd" else make([weight], lr=0.1, fused=True)  # type: ignore[operator, call-arg]
    assert compat.can_skip_on_device(optimizer), TORCH

    def update(flag: float | None) -> None:
        weight.grad = torch.full_like(weight, math.nan if flag else 1.0)
        compat.set_skip(optimizer, None if flag is None else torch.tensor(flag))
        optimizer.step()

    update(None)
    assert compat.skip_flag(optimizer) is None
    before, state = weight.detach().clone(), copy.deepcopy(optimizer.state_dict()["state"])
    update(1.0)
    assert torch.equal(weight, before), TORCH
    after = optimizer.state_dict()["state"][0]
    assert all(torch.equal(value, after[key]) for key, value in state[0].items()), TORCH
    assert compat.skip_flag(optimizer) == 1
    update(0.0)
    assert not torch.equal(weight, before) and weight.isfinite().all(), TORCH


def test_optimisers_that_are_not_fused_cannot_skip() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    assert not compat.can_skip_on_device(torch.optim.Adam([weight]))
    assert not compat.can_skip_on_device(torch.optim.Adamax([weight]))
