"""Muon: orthogonal updates against singular value decompositions and torch's own, and where they apply."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError
from nelbo.numerics.compat import can_skip_on_device, set_skip
from nelbo.training import Muon
from nelbo.training.muon import ADAM_RMS, ITERATIONS, orthogonalized
from tests.helpers.diverging import Training

muon = partial(Muon, lr=0.1, momentum=0.95, betas=(0.9, 0.999), eps=1e-8, adam_lr=1.0)


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def scalar(value: Tensor) -> Tensor:
    """Return what the iterations make of singular values, number by number."""
    for _ in range(ITERATIONS):
        value = 3.4445 * value - 4.7750 * value**3 + 2.0315 * value**5
    return value


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 9), (2, 12, 3), (1, 1, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_vectors_are_kept_and_singular_values_are_near_one(
    shape: tuple[int, ...], dtype: torch.dtype, rng: torch.Generator
) -> None:
    x = torch.randn(shape, generator=rng, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    exact = u @ torch.diag_embed(scalar(s / s.norm(dim=-1, keepdim=True))) @ vh
    torch.testing.assert_close(orthogonalized(x.to(dtype)).double(), exact, rtol=0, atol=1e-5)
    values = torch.linalg.svdvals(exact)
    assert values.min() > 0.4 and values.max() < 1.3


def test_a_gradient_of_zero_makes_no_update() -> None:
    weight = nn.Parameter(torch.ones(2, 3))
    weight.grad = torch.zeros(2, 3)
    muon([weight], lr=1.0).step()
    assert torch.equal(weight, torch.ones(2, 3))


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-23, 1e-21, 1e-10, 1e18, 1e30])
def test_momenta_of_every_size_make_finite_updates(size: float, rng: torch.Generator) -> None:
    """The squares of the entries underflow or overflow in float32; a momentum that has vanished is not scaled up."""
    x = size * torch.randn(2, 5, 7, generator=rng)
    values = torch.linalg.svdvals(orthogonalized(x))
    assert values.isfinite().all() and values.max() < 1.3
    assert (values.min() > 0.4) if size > 1e-20 else (values.max() < 1e4 * size / 1e-20)


def test_weights_stay_finite_where_a_gradient_becomes_zero(rng: torch.Generator) -> None:
    """The momentum of a layer that is not used any more decays until its squares underflow."""
    weight = nn.Parameter(torch.randn(4, 6, generator=rng))
    optimizer = muon([weight], lr=1e-3)
    weight.grad = torch.randn(4, 6, generator=rng)
    for _ in range(2500):
        optimizer.step()
        weight.grad = torch.zeros(4, 6)
    assert weight.isfinite().all()


def test_updates_of_matrices_are_those_of_torch(rng: torch.Generator) -> None:
    """torch computes in bfloat16, with a relative error of 0.4% in every product."""
    start = torch.randn(24, 16, generator=rng)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        muon([ours], lr=0.01, momentum=0.9),
        torch.optim.Muon([theirs], lr=0.01, momentum=0.9, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(4):
        gradient = torch.randn(24, 16, generator=rng)
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert moved > 0.1 and (ours - theirs).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(32, 8, 3, 3), (40, 6)])
def test_an_update_has_the_size_of_adams(shape: tuple[int, ...], rng: torch.Generator) -> None:
    """Up to the root mean square of the singular values, which are near 1."""
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=rng)
    muon([weight]).step()
    (values,) = torch.linalg.svdvals(orthogonalized(weight.grad.flatten(1)[None]))
    near_one = values.square().mean().sqrt().item()
    assert 0.7 < near_one < 1.2
    assert weight.square().mean().sqrt().item() == pytest.approx(0.1 * ADAM_RMS * near_one, rel=1e-4)


def test_filters_are_matrices_of_their_output_channels_in_every_memory_format(rng: torch.Generator) -> None:
    conv = nn.Conv2d(6, 4, 3)
    last = copy.deepcopy(conv).to(memory_format=torch.channels_last)
    flat = nn.Parameter(conv.weight.detach().flatten(1).clone())
    for _ in range(2):
        gradient = torch.randn(conv.weight.shape, generator=rng)
        conv.weight.grad, flat.grad = gradient, gradient.flatten(1)
        last.weight.grad = gradient.to(memory_format=torch.channels_last)
        for weight in (conv.weight, last.weight, flat):
            muon([weight]).step()
    assert not torch.equal(flat, torch.zeros_like(flat))
    torch.testing.assert_close(conv.weight.flatten(1), flat)
    torch.testing.assert_close(last.weight, conv.weight)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)


class Free(nn.Module):
    """A linear layer beside parameters that are no layer's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(3)
        self.single = nn.Linear(3, 1)
        self.codes = nn.Parameter(torch.ones(4, 3))


def test_biases_codes_and_other_free_parameters_have_the_updates_of_adam(rng: torch.Generator) -> None:
    free = Free()
    reference = copy.deepcopy(free)
    optimizers = (
        muon(free.named_parameters(), lr=0.02, betas=(0.8, 0.95), eps=1e-6, adam_lr=0.5),
        torch.optim.Adam(reference.parameters(), lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    )
    for _ in range(3):
        for one, two in zip(free.parameters(), reference.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=rng)
            two.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    pairs = zip(free.named_parameters(), reference.parameters(), strict=True)
    different = [name for (name, one), two in pairs if not torch.allclose(one, two, atol=1e-6)]
    assert different == ["layer.weight"]


def test_a_flag_on_the_device_skips_an_update_and_leaves_the_state(rng: torch.Generator) -> None:
    """As torch's fused optimisers do, also where gradients are NaN."""
    layer = nn.Linear(3, 2)
    optimizer = muon(layer.named_parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    before = copy.deepcopy((layer.state_dict(), optimizer.state_dict()["state"]))
    assert can_skip_on_device(optimizer)
    for parameter in layer.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    set_skip(optimizer, torch.tensor(1.0))
    optimizer.step()
    torch.testing.assert_close((layer.state_dict(), optimizer.state_dict()["state"]), before, rtol=0, atol=0)
    reference = copy.deepcopy(layer), copy.deepcopy(optimizer)
    for parameter in layer.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=rng)
    twin = copy.deepcopy(layer)
    plain = muon(twin.named_parameters())
    plain.load_state_dict(reference[1].state_dict())
    for one, two in zip(twin.parameters(), layer.parameters(), strict=True):
        assert two.grad is not None
        one.grad = two.grad.clone()
    set_skip(optimizer, torch.tensor(0.0))
    optimizer.step()
    plain.step()
    torch.testing.assert_close(layer.state_dict(), twin.state_dict())
    assert not torch.equal(layer.weight, reference[0].weight)


@pytest.mark.parametrize("option", [{"momentum": 1.0}, {"momentum": -0.1}, {"adam_lr": -1.0}])
def test_invalid_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        muon([nn.Parameter(torch.ones(2, 2))], **option)


def test_a_run_tells_weights_of_layers_by_their_names(tmp_path: Path) -> None:
    """The means of a mixture are a matrix too, but no layer."""
    training = Training(tmp_path, "optimizer=muon", "prior=mixture", "trainer.max_epochs=1").fit()
    (optimizer,) = training.trainer.optimizers
    states = {name: optimizer.state[parameter].keys() for name, parameter in training.module.named_parameters()}
    assert set(states["model.encoder.layers.1.weight"]) == {"momentum_buffer"}
    others = {name for name, state in states.items() if "exp_avg" in state}
    assert {name for name in others if name.startswith("model.prior.")}
    assert not {name for name in others if name.endswith(".weight") and ".encoder." in name}
