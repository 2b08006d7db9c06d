"""Log-densities of all pairs, and of full Gaussians in all batch shapes, against torch.distributions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from nelbo.distributions import (
    DiagonalNormal,
    FullNormal,
    GaussianMixture,
    OneHots,
    even_mixture,
    log_densities,
    temper,
)
from tests.helpers.largest import LargestTensor

K, D = 7, 4
LEADING = [(), (3,), (2, 3)]
DTYPES = [torch.float64, torch.float32]


def full_factor(raw: Tensor) -> Tensor:
    return torch.diag_embed(raw.diagonal(dim1=-2, dim2=-1).exp()) + 0.5 * raw.tril(-1)


Made = Callable[[Tensor, Tensor], Distribution]
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Made, Made]] = {
    "diagonal": (
        (D,),
        (D,),
        lambda loc, raw: DiagonalNormal(loc, raw.exp()),
        lambda loc, raw: Independent(Normal(loc, raw.exp()), 1),
    ),
    "map": (
        (2, 3, 1),
        (2, 3, 1),
        lambda loc, raw: DiagonalNormal(loc, raw.exp(), event_dimensions=3),
        lambda loc, raw: Independent(Normal(loc, raw.exp()), 3),
    ),
    "full": (
        (D,),
        (D, D),
        lambda loc, raw: FullNormal(loc, full_factor(raw)),
        lambda loc, raw: MultivariateNormal(loc, scale_tril=full_factor(raw)),
    ),
    "laplace": (
        (D,),
        (D,),
        lambda loc, raw: Independent(Laplace(loc, raw.exp()), 1),
        lambda loc, raw: Independent(Laplace(loc, raw.exp()), 1),
    ),
}
"""Event shape, shape of the second parameter, and a distribution of ours and of torch, by name."""


def inputs(name: str, leading: tuple[int, ...]) -> list[Tensor]:
    """Return z, means and raw scales in float64 that float32 represents exactly."""
    event, second, _, _ = CASES[name]
    shapes = ((*leading, *event), (K, *event), (K, *second))
    return [torch.randn(shape).double().requires_grad_() for shape in shapes]


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    tolerance = {"rtol": 1e-11, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    torch.testing.assert_close(found.double(), expected.double(), **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("name", CASES)
def test_pairs_and_gradients_are_those_of_torch(name: str, leading: tuple[int, ...], dtype: torch.dtype) -> None:
    event, _, ours, torchs = CASES[name]
    z, *parameters = exact = inputs(name, leading)
    weights = torch.randn(*leading, K).double()
    log_weights = torch.randn(K).double()
    expected = torchs(*parameters).log_prob(z.unsqueeze(-1 - len(event))) + log_weights
    own = [value.detach().to(dtype).requires_grad_() for value in exact]
    found = log_densities(ours(*own[1:]), own[0], log_weights.to(dtype))
    assert found.shape == (*leading, K)
    assert found.dtype == (dtype if name == "laplace" else torch.float64)
    close(found, expected, dtype)
    close(log_densities(ours(*own[1:]), own[0]), expected - log_weights, dtype)
    expected_gradients = torch.autograd.grad((weights * expected).sum(), exact)
    for gradient, wanted in zip(torch.autograd.grad((weights * found).sum(), own), expected_gradients, strict=True):
        scale = wanted.abs().max().clamp(min=1) if wanted.numel() else 1
        close(gradient / scale, wanted / scale, dtype)


@pytest.mark.parametrize("leading", LEADING)
def test_pairs_of_one_hot_codes_are_those_of_torch(leading: tuple[int, ...]) -> None:
    logits = torch.randn(K, 3, 5)
    z = OneHotCategorical(logits=torch.zeros(3, 5)).sample(torch.Size(leading))
    expected = Independent(OneHotCategorical(logits=logits), 1).log_prob(z.unsqueeze(-3))
    close(log_densities(OneHots(logits), z), expected, torch.float32)


@pytest.mark.parametrize("name", ["diagonal", "map", "full"])
def test_there_may_be_no_points(name: str) -> None:
    event, _, ours, _ = CASES[name]
    assert log_densities(ours(*inputs(name, ())[1:]), torch.zeros(2, 0, *event)).shape == (2, 0, K)


def test_points_in_several_solves_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    z, loc, raw = inputs("full", (5, 2))
    q = FullNormal(loc, full_factor(raw))
    together = log_densities(q, z)
    monkeypatch.setattr("nelbo.distributions.pairwise.ELEMENTS", 3 * K * D)
    torch.testing.assert_close(log_densities(q, z), together, rtol=1e-13, atol=1e-13)


SHAPES = [
    ((), ()),
    ((), (3,)),
    ((), (2, 3)),
    ((3,), ()),
    ((3,), (3,)),
    ((3,), (2, 3)),
    ((3,), (5, 2, 3)),
    ((3,), (2, 1)),
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (5, 1, 3)),
    ((1,), (2, 3)),
    ((2, 1), (5, 2, 3)),
]
"""Batch shapes of a full Gaussian, and leading shapes of points."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "leading"), SHAPES)
def test_full_normals_are_those_of_torch(batch: tuple[int, ...], leading: tuple[int, ...], dtype: torch.dtype) -> None:
    shapes = ((*leading, D), (*batch, D), (*batch, D, D))
    z, loc, raw = exact = [torch.randn(shape).double().requires_grad_() for shape in shapes]
    expected = MultivariateNormal(loc, scale_tril=full_factor(raw)).log_prob(z)
    own = [value.detach().to(dtype).requires_grad_() for value in exact]
    found = FullNormal(own[1], full_factor(own[2])).log_prob(own[0])
    assert found.dtype == dtype and found.shape == expected.shape
    close(found, expected, dtype)
    expected_gradients = torch.autograd.grad(expected.sum(), exact)
    for gradient, wanted in zip(torch.autograd.grad(found.sum(), own), expected_gradients, strict=True):
        scale = wanted.abs().max().clamp(min=1) if wanted.numel() else 1
        close(gradient / scale, wanted / scale, dtype)


def halved(name: str, loc: Tensor, raw: Tensor) -> Distribution:
    """Return the Gaussians of torch with half the spread."""
    if name == "diagonal":
        return Independent(Normal(loc, 0.5 * raw.exp()), 1)
    return MultivariateNormal(loc, scale_tril=0.5 * full_factor(raw))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_mixtures_are_those_of_torch(name: str, leading: tuple[int, ...], dtype: torch.dtype) -> None:
    _, _, ours, torchs = CASES[name]
    z, *parameters = exact = inputs(name, leading)
    logits = torch.randn(K).double()
    own = [value.detach().to(dtype) for value in exact]
    for mixture, weights in (
        (even_mixture(ours(*own[1:])), torch.zeros(K).double()),
        (GaussianMixture(logits.to(dtype), ours(*own[1:])), logits),
    ):
        expected = MixtureSameFamily(Categorical(logits=weights), torchs(*parameters)).log_prob(z)
        found = mixture.log_prob(own[0])
        assert found.dtype == dtype and isinstance(mixture, GaussianMixture)
        close(found, expected, dtype)
        narrow = MixtureSameFamily(Categorical(logits=weights), halved(name, *parameters))
        close(temper(mixture, 0.5).log_prob(own[0]), narrow.log_prob(z), dtype)


@pytest.mark.parametrize("name", ["mixture", "posterior"])
def test_no_factor_is_copied_for_each_point(name: str) -> None:
    """The largest tensor has the size (N, K, D) of the pairs, not (N, K, D, D)."""
    points, count, size = 64, 8, 16
    loc, factor = torch.randn(count, size), full_factor(torch.randn(count, size, size)).requires_grad_()
    q = FullNormal(loc, factor)
    z = torch.randn(points, size) if name == "mixture" else torch.randn(points, count, size)
    with LargestTensor() as largest:
        (even_mixture(q) if name == "mixture" else q).log_prob(z).sum().backward()
    assert largest.elements == points * count * size
