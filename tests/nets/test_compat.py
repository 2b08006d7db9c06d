"""The import of zuko leaves torch unchanged, in the installed version of zuko."""

from __future__ import annotations

from importlib.metadata import version

import pytest
import torch
from torch.distributions import Distribution, Normal
from torch.func import vmap

from nelbo.distributions import StandardNormal
from nelbo.nets.compat import zuko

PACKAGE = f"zuko {version('zuko')}"


def test_importing_nelbo_keeps_the_validation_of_torch_distributions() -> None:
    hint = f"importing {PACKAGE} changed torch.distributions.Distribution.%s, which nelbo.nets.compat should restore"
    assert Distribution._validate_args is True, hint % "_validate_args"
    assert isinstance(Distribution.__dict__["arg_constraints"], property), hint % "arg_constraints"
    with pytest.raises(ValueError, match="scale"):
        Normal(torch.zeros(1), -torch.ones(1))
    assert vmap(StandardNormal(torch.zeros(2)).log_prob)(torch.zeros(3, 2)).shape == (3,)


def test_zuko_has_the_transforms_of_flows() -> None:
    for module, name in (
        (zuko.flows, "MaskedAutoregressiveTransform"),
        (zuko.flows, "GeneralCouplingTransform"),
        (zuko.transforms, "MonotonicRQSTransform"),
        (zuko.transforms, "ComposedTransform"),
        (zuko.transforms, "CouplingTransform"),
    ):
        assert hasattr(module, name), f"{PACKAGE} has no {module.__name__}.{name}, which nelbo.nets.flows uses"


def test_coupling_transforms_have_the_attributes_that_nelbo_sets() -> None:
    layer = zuko.flows.GeneralCouplingTransform(3, mask=torch.tensor([True, False, True]))
    for owner, name in ((layer, "meta"), (layer(), "meta"), (layer(), "idx_a"), (layer(), "idx_b")):
        hint = f"{PACKAGE}: {type(owner).__name__} has no {name}, which nelbo.nets.compat uses"
        assert hasattr(owner, name), hint
    assert layer().idx_a.tolist() == [0, 2] and layer().idx_b.tolist() == [1], PACKAGE
