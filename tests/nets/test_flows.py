"""Flows: their layers are those of zuko, bit for bit."""

from __future__ import annotations

import pytest
import torch

from nelbo.nets import FlowTransforms
from nelbo.nets.compat import zuko
from nelbo.nets.flows import KINDS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "context"), [(1, 0), (2, 3), (5, 0), (5, 3)])
def test_layers_are_those_of_zuko_without_a_search_of_masks(kind: str, dim: int, context: int) -> None:
    transforms = FlowTransforms(dim, context, kind=kind, layers=3, hidden=[8])
    given = torch.randn(4, context) if context else None
    z = torch.randn(2, 4, dim, requires_grad=True)
    theirs = zuko.transforms.ComposedTransform(*(layer(given) for layer in transforms.layers))
    ours = transforms(given)
    for one, other in ((ours, theirs), (ours.inv, theirs.inv)):
        if one is ours.inv and kind == "autoregressive":
            continue
        results = [transform.call_and_ladj(z) for transform in (one, other)]
        gradients = [
            torch.autograd.grad(y.sum() + ladj.sum(), [z, *transforms.parameters()], retain_graph=True)
            for y, ladj in results
        ]
        for mine, expected in zip((*results[0], *gradients[0]), (*results[1], *gradients[1]), strict=True):
            assert torch.equal(mine, expected)


def test_positions_follow_the_module_and_are_not_saved() -> None:
    transforms = FlowTransforms(4, 0, kind="coupling", layers=2, hidden=[8])
    assert not {"even", "odd"} & transforms.state_dict().keys()
    assert transforms.to("meta").even.device.type == "meta"
