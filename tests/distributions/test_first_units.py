"""The first units of distributions against marginals by their covariance, and by torch.distributions."""

from __future__ import annotations

import math

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
    kl_divergence,
)

from nelbo.distributions import (
    DiagonalNormal,
    FirstUnits,
    FirstUnitsMixture,
    Flow,
    FullNormal,
    GaussianMixture,
    NormalMixture,
    StandardNormal,
    even_mixture,
    first_units,
    temper,
)
from nelbo.distributions.pairwise import first_log_densities
from nelbo.nets import FlowTransforms

D, COMPONENTS = 4, 6
COUNTS = [1, 3, 2, 4, 3]
MASK = (torch.arange(D) < torch.tensor(COUNTS).unsqueeze(-1)).double()
FAMILIES = ["diagonal", "full", "laplace"]


def components(family: str, dtype: torch.dtype = torch.float64) -> Distribution:
    """Return distributions over vectors, batch shape (COMPONENTS,), with parameters that float32 represents exactly."""
    torch.manual_seed(3)
    loc, scale = torch.randn(COMPONENTS, D).to(dtype), (0.3 + torch.rand(COMPONENTS, D)).to(dtype)
    if family == "diagonal":
        return DiagonalNormal(loc, scale)
    if family == "full":
        return FullNormal(loc, torch.diag_embed(scale) + torch.randn(COMPONENTS, D, D).tril(-1).to(dtype))
    return Independent(Laplace(loc, scale), 1)


def marginal(distribution: Distribution, count: int) -> Distribution:
    """Return the marginal of the first units: of Gaussians by the leading block of the covariance."""
    if isinstance(distribution, MultivariateNormal):
        return MultivariateNormal(distribution.loc[:, :count], distribution.covariance_matrix[:, :count, :count])
    assert isinstance(distribution, Independent)
    base = distribution.base_dist
    return Independent(type(base)(base.loc[:, :count], base.scale[:, :count]), 1)


def standard(values: Tensor) -> Tensor:
    """Return log N(values; 0, I), summed over the last dimension."""
    return -0.5 * (values.square() + math.log(2 * math.pi)).sum(-1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("leading", [(5,), (2, 5), (3, 2, 5)])
def test_pairs_are_marginal_densities(family: str, leading: tuple[int, ...]) -> None:
    q, z, log_weights = components(family), torch.randn(*leading, D).double(), torch.randn(COMPONENTS).double()
    found = first_log_densities(q, z, MASK, log_weights)
    assert found.shape == (*leading, COMPONENTS)
    for index, count in enumerate(COUNTS):
        expected = marginal(q, count).log_prob(z[..., index, :count].unsqueeze(-2)) + log_weights
        torch.testing.assert_close(found[..., index, :], expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(first_log_densities(q, z, MASK), found - log_weights, rtol=1e-11, atol=1e-11)


def test_points_in_several_solves_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    q, z = components("full"), torch.randn(3, 5, D).double()
    together = first_log_densities(q, z, MASK)
    monkeypatch.setattr("nelbo.distributions.pairwise.ELEMENTS", 2 * COMPONENTS * D)
    torch.testing.assert_close(first_log_densities(q, z, MASK), together, rtol=1e-13, atol=1e-13)


def test_without_float64_pairs_of_diagonal_normals_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    q, z = components("diagonal", torch.float32), torch.randn(2, 5, D)
    expected = first_log_densities(q, z, MASK.float())
    monkeypatch.setattr("nelbo.distributions.pairwise.finest", lambda value: value)
    found = first_log_densities(q, z, MASK.float())
    assert (found.dtype, expected.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("family", FAMILIES)
def test_mixtures_are_mixtures_of_marginals_times_standard_normals(family: str, dtype: torch.dtype) -> None:
    logits = torch.randn(COMPONENTS).double() if family == "diagonal" else torch.zeros(COMPONENTS).double()
    q, z = components(family), torch.randn(3, 5, D).to(dtype)
    made = components(family, dtype)
    whole = GaussianMixture(logits.to(dtype), made) if isinstance(made, DiagonalNormal) else even_mixture(made)
    p = first_units(whole, MASK.to(dtype))
    assert isinstance(p, FirstUnitsMixture) and (p.batch_shape, p.event_shape) == ((5,), (D,))
    found, tolerance = p.log_prob(z), 1e-11 if dtype == torch.float64 else 1e-5
    assert found.dtype == dtype and found.shape == (3, 5)
    for index, count in enumerate(COUNTS):
        mixture = MixtureSameFamily(Categorical(logits=logits), marginal(q, count))
        value = z[:, index].double()
        expected = mixture.log_prob(value[:, :count]) + standard(value[:, count:])
        torch.testing.assert_close(found[:, index].double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(p.mean[index, :count].double(), mixture.mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(p.variance[index, :count].double(), mixture.variance, rtol=1e-5, atol=1e-5)
        assert (p.mean[index, count:] == 0).all() and (p.variance[index, count:] == 1).all()


def test_temperature_scales_the_first_units_of_a_mixture() -> None:
    whole = NormalMixture(torch.zeros(COMPONENTS), torch.zeros(COMPONENTS, D), torch.ones(COMPONENTS, D))
    p = temper(first_units(whole, MASK[1].float()), 0.5)
    z = p.sample(torch.Size((20_000,)))
    assert p.batch_shape == () and torch.allclose(z.std(0), torch.tensor([0.5, 0.5, 0.5, 1]), atol=0.03)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_distribution_for_each_image_has_its_marginals(family: str) -> None:
    """Batch shape (B,) of both the distribution and the mask, as q(z|x) has."""
    q, mask = components(family), torch.cat([MASK, MASK[:1]])
    first, z = first_units(q, mask), torch.randn(3, COMPONENTS, D).double()
    assert isinstance(first, type(q)) and first.batch_shape == (COMPONENTS,)
    for index, count in enumerate([*COUNTS, COUNTS[0]]):
        value = z[:, index]
        expected = marginal(q, count).log_prob(value[:, None, :count])[:, index] + standard(value[:, count:])
        torch.testing.assert_close(first.log_prob(z)[:, index], expected, rtol=1e-11, atol=1e-11)
        assert (first.mean[index, count:] == 0).all() and (first.variance[index, count:] == 1).all()
        torch.testing.assert_close(first.mean[index, :count], q.mean[index, :count])
        torch.testing.assert_close(first.variance[index, :count], q.variance[index, :count])


def test_numbers_beyond_the_first_are_standard_normal() -> None:
    base = Laplace(torch.full((2, D), 3.0, requires_grad=True), torch.full((2, D), 0.5))
    mixed = FirstUnits(base, torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]]))
    drawn = mixed.rsample(torch.Size((20_000,)))
    assert mixed.has_rsample and drawn.shape == (20_000, 2, D) and not mixed.sample().requires_grad
    torch.testing.assert_close(drawn.mean(0), mixed.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.var(0), mixed.variance, rtol=0.1, atol=0)
    (gradient,) = torch.autograd.grad(drawn.sum(), base.loc)
    assert gradient.tolist() == [[20_000, 20_000, 0, 0], [20_000, 0, 0, 0]]
    kl = kl_divergence(mixed, Normal(torch.zeros(D), torch.ones(D)))
    expected = kl_divergence(base, Normal(torch.zeros(D), torch.ones(D)))
    assert torch.equal(kl == 0, ~mixed.kept) and torch.equal(kl[mixed.kept], expected[mixed.kept])
    shifted = kl_divergence(mixed, Normal(torch.ones(D), torch.ones(D)))
    assert shifted[~mixed.kept].tolist() == [0.5] * 5


def test_the_standard_normal_is_itself() -> None:
    p = StandardNormal(torch.zeros(D))
    assert first_units(p, MASK) is p


def test_the_first_units_of_a_flow_are_refused() -> None:
    transforms = FlowTransforms(D, 0, kind="coupling", layers=1, hidden=[4])
    flow = Flow(DiagonalNormal(torch.zeros(3, D), torch.ones(3, D)), transforms(), fast_inverse=True)
    for distribution in (flow, even_mixture(flow)):
        with pytest.raises(NotImplementedError, match="the first units of Flow have no marginal in closed form"):
            first_units(distribution, MASK[:3])
    with pytest.raises(NotImplementedError, match="the first units of Flow have no marginal in closed form"):
        first_log_densities(flow, torch.zeros(3, D), MASK[:3])
