"""Distributions at the ends of what their parameters may be: finite, with finite gradients, a KL that is none below 0.

Parameters lie as far out as heads and priors let them: bounded scales, and anything of a size up to 1e4 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, MixtureSameFamily, kl_divergence

from nelbo.distributions import (
    BernoulliPixels,
    BetaPixels,
    CategoricalPixels,
    ContinuousBernoulli,
    Delta,
    DiagonalNormal,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Flow,
    FullNormal,
    LaplacePixels,
    NormalMixture,
    NormalPixels,
    StandardNormal,
    even_mixture,
    mean_of,
    sample_with_density,
    temper,
    two_means,
)
from nelbo.heads.beta import CONCENTRATION_FLOOR, LOGIT_BOUND, concentration_ceiling
from nelbo.heads.discretized import SCALE_FLOOR
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.posterior import LOG_SCALE_BOUND
from tests.properties import tried

few = settings(tried, max_examples=15)
FAR = 1e4
B, C, H, W, D, K = 2, 3, 2, 2, 3, 4
Draw = Callable[..., Tensor]
Make = Callable[[Draw], Distribution]


def drawer(data: st.DataObject, dtype: torch.dtype = torch.float32) -> Draw:
    """`draw(low, high, *shape)`: all at one end, some at either, or anywhere between."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        kind, seed = data.draw(st.sampled_from(["low", "high", "ends", "between"])), data.draw(st.integers(0, 2**31))
        share = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        share = {"low": share * 0, "high": share * 0 + 1, "ends": share.round(), "between": share}[kind]
        return (low + (high - low) * share).clamp(low, high).requires_grad_()

    return draw


def log_scales(draw: Draw, *shape: int) -> Tensor:
    return draw(-LOG_SCALE_BOUND, LOG_SCALE_BOUND, *shape)


def diagonal(draw: Draw, batch: int = B) -> DiagonalNormal:
    log_scale = log_scales(draw, batch, D)
    return DiagonalNormal(draw(-FAR, FAR, batch, D), log_scale.exp(), log_scale)


def full(draw: Draw) -> FullNormal:
    scale = log_scales(draw, B, D).exp()
    factor = torch.diag_embed(scale) + scale.unsqueeze(-1) * draw(-5, 5, B, D, D).tril(-1)
    return FullNormal(draw(-FAR, FAR, B, D), factor)


def laplace(draw: Draw) -> Distribution:
    base = Laplace(draw(-FAR, FAR, B, D), log_scales(draw, B, D).exp(), validate_args=False)
    return Independent(base, 1, validate_args=False)


class Affine:
    """z = a e + b."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    @property
    def inv(self) -> Affine:
        return Affine(1 / self.a, -self.b / self.a)

    def __call__(self, x: Tensor) -> Tensor:
        return self.a * x + self.b

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self(x), self.a.abs().log().expand_as(x).sum(-1)


VECTORS: dict[str, Make] = {
    "diagonal_normal": diagonal,
    "standard_normal": lambda draw: StandardNormal(torch.zeros(D)).expand((B,)),
    "full_normal": full,
    "laplace": laplace,
    "flow": lambda draw: Flow(diagonal(draw), Affine(draw(-5, 5, D).exp(), draw(-FAR, FAR, D))),
}
MIXTURES: dict[str, Make] = {
    "normal_mixture": lambda draw: NormalMixture(draw(-50, 50, K), draw(-FAR, FAR, K, D), log_scales(draw, K, D).exp()),
    "even_diagonal": lambda draw: even_mixture(diagonal(draw, K)),
    "even_full": lambda draw: even_mixture(full(draw)),
    "even_laplace": lambda draw: even_mixture(laplace(draw)),
}
LEVELS = [2, 17, 256]


def sigma(draw: Draw, floor: float, *shape: int) -> Tensor:
    return draw(math.log(floor), math.log(FAR), *shape).exp()


def pixels(levels: int) -> dict[str, Make]:
    """Likelihoods, event (C, H, W)."""
    shape, top = (B, C, H, W), levels - 1
    floor = SCALE_FLOOR / top
    return {
        "bernoulli": lambda draw: BernoulliPixels(draw(-FAR, FAR, *shape)),
        "continuous_bernoulli": lambda draw: Independent(ContinuousBernoulli(draw(-FAR, FAR, *shape)), 3),
        "normal": lambda draw: NormalPixels(draw(-FAR, FAR, *shape), sigma(draw, SIGMA_FLOOR, C, 1, 1)),
        "laplace": lambda draw: LaplacePixels(draw(-FAR, FAR, *shape), sigma(draw, SIGMA_FLOOR)),
        "beta": lambda draw: BetaPixels(
            draw(-LOGIT_BOUND, LOGIT_BOUND, *shape),
            draw(math.log(CONCENTRATION_FLOOR), math.log(concentration_ceiling(levels)), C, 1, 1).exp(),
            levels,
        ),
        "discretized_logistic": lambda draw: DiscretizedLogistic(
            draw(-FAR, FAR, *shape), sigma(draw, floor, C, 1, 1), levels
        ),
        "discretized_gaussian": lambda draw: DiscretizedGaussian(
            draw(-FAR, FAR, *shape), sigma(draw, floor, C, 1, 1), levels
        ),
        "discretized_logistic_mixture": lambda draw: DiscretizedLogisticMixture(
            draw(-FAR, FAR, B, K, H, W),
            draw(-FAR, FAR, B, C, K, H, W),
            sigma(draw, floor, B, C, K, H, W),
            draw(-1, 1, B, C * (C - 1) // 2, K, H, W),
            levels,
        ),
        "categorical": lambda draw: CategoricalPixels(draw(-FAR, FAR, B, C, levels, H, W)),
    }


def assert_finite(distribution: Distribution, value: Tensor, parameters: list[Tensor]) -> None:
    """The log-probability, of the right shape, and what it sends back to the parameters."""
    log_p = distribution.log_prob(value)
    leading = value.shape[: value.ndim - len(distribution.event_shape)]
    assert log_p.shape == torch.broadcast_shapes(leading, distribution.batch_shape)
    assert log_p.isfinite().all()
    if log_p.requires_grad:
        gradients = torch.autograd.grad(log_p.sum(), parameters, allow_unused=True, retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


def recording(draw: Draw) -> tuple[Draw, list[Tensor]]:
    """The same, and a list of what it gave."""
    given_out = list[Tensor]()

    def record(low: float, high: float, *shape: int) -> Tensor:
        given_out.append(draw(low, high, *shape))
        return given_out[-1]

    return record, given_out


@pytest.mark.parametrize("name", [*VECTORS, *MIXTURES])
@few
@given(data=st.data())
def test_densities_of_vectors_are_finite(name: str, data: st.DataObject) -> None:
    draw, parameters = recording(drawer(data))
    distribution = {**VECTORS, **MIXTURES}[name](draw)
    batch = distribution.batch_shape
    sample = distribution.sample(torch.Size((5,)))
    assert sample.shape == (5, *batch, D) and sample.isfinite().all()
    assert_finite(distribution, sample, parameters)
    assert_finite(distribution, drawer(data)(-FAR, FAR, 4, *batch, D).detach(), parameters)
    for mean in (mean_of(distribution), *two_means(distribution)):
        assert mean.shape == (*batch, D) and mean.isfinite().all()


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("name", list(pixels(2)))
@few
@given(data=st.data())
def test_likelihoods_are_finite(name: str, levels: int, data: st.DataObject) -> None:
    """Of their own samples, as far as these are images, and of images whose pixels are at both ends."""
    draw, parameters = recording(drawer(data))
    px = pixels(levels)[name](draw)
    sample = px.sample(torch.Size((2,)))
    assert sample.shape == (2, B, C, H, W) and sample.isfinite().all()
    assert px.mean.shape == (B, C, H, W) and px.mean.isfinite().all()
    if name in ("discretized_logistic", "discretized_gaussian", "discretized_logistic_mixture", "categorical"):
        assert px.support.check(sample).all() and 0 <= px.mean.min() and px.mean.max() <= 1
    image = drawer(data)(0, levels - 1, 1, C, H, W).detach().round() / (levels - 1)
    for x in (sample.clamp(0, 1), image, torch.zeros(C, H, W), torch.ones(C, H, W)):
        assert_finite(px, x, parameters)
        if px.support.is_discrete and name != "bernoulli":
            assert (px.log_prob(x) <= 1e-3).all()


@pytest.mark.parametrize("name", [*VECTORS, *pixels(2)])
@few
@given(data=st.data())
def test_expanded_distributions_are_the_same(name: str, data: st.DataObject) -> None:
    make = {**VECTORS, **pixels(17)}[name]
    if name == "flow":  # which nothing expands
        return
    distribution = make(drawer(data))
    larger = distribution.expand(torch.Size((3, B)))
    assert larger.batch_shape == (3, B) and larger.event_shape == distribution.event_shape
    x = distribution.sample()
    for log_p in larger.log_prob(x):
        torch.testing.assert_close(log_p, distribution.log_prob(x))
    assert larger.sample(torch.Size((2,))).shape == (2, 3, *x.shape)


@pytest.mark.parametrize("name", ["diagonal_normal", "standard_normal", "full_normal", "laplace"])
@few
@given(data=st.data())
def test_no_kl_is_below_zero(name: str, data: st.DataObject) -> None:
    draw, parameters = recording(drawer(data))
    q = VECTORS[name](draw)
    for p in (StandardNormal(torch.zeros(D)), diagonal(draw)):
        kl = kl_divergence(q, p)
        assert kl.shape == (B,) and kl.isfinite().all()
        assert (kl >= -1e-5).all()
        if kl.requires_grad:
            gradients = torch.autograd.grad(kl.sum(), parameters, allow_unused=True, retain_graph=True)
            assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@few
@given(data=st.data())
def test_the_kl_to_itself_is_zero(data: st.DataObject) -> None:
    p = diagonal(drawer(data))
    plain = DiagonalNormal(p.loc, p.scale)
    for near in (0.9, 1.1):  # the KL is 0.01 a dimension, if none of its terms is off
        expected = torch.full((B,), D * (0.5 * (near**-2 - 1) + math.log(near)))
        torch.testing.assert_close(kl_divergence(p, DiagonalNormal(p.loc, p.scale * near)), expected)
    factor = FullNormal(p.loc, torch.diag_embed(p.scale))
    for kl in (kl_divergence(p, p), kl_divergence(plain, plain), kl_divergence(factor, plain)):
        torch.testing.assert_close(kl, torch.zeros(B), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*VECTORS, *MIXTURES])
@few
@given(data=st.data(), temperature=st.floats(1e-3, 10))
def test_temper(name: str, data: st.DataObject, temperature: float) -> None:
    """1 changes nothing; the same noise goes `temperature` times as far; towards 0 all is at one point."""
    distribution = {**VECTORS, **MIXTURES}[name](drawer(data, torch.float64))

    def sample(temperature: float, seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        return temper(distribution, temperature).sample(torch.Size((6,)))

    same = sample(1)
    torch.manual_seed(0)
    assert torch.equal(same, distribution.sample(torch.Size((6,))))
    point = sample(0)
    torch.testing.assert_close(sample(temperature) - point, temperature * (same - point), rtol=1e-6, atol=1e-6)
    assert type(temper(distribution, temperature)) is type(distribution) or name == "standard_normal"
    if name in VECTORS:
        assert torch.equal(point, sample(0, seed=1))


@few
@given(data=st.data())
def test_the_fast_density_of_a_mixture_is_torchs(data: st.DataObject) -> None:
    """Where its products of float64 leave it digits enough: |loc| up to 2e6 times the smallest scale."""
    draw = drawer(data)
    mixture = NormalMixture(draw(-50, 50, K), draw(-100, 100, K, D), log_scales(draw, K, D).exp())
    z = mixture.sample(torch.Size((5,)))
    logits, loc, scale = (
        part.detach().double() for part in (mixture.mixture_distribution.logits, mixture.loc, mixture.scale)
    )
    general = MixtureSameFamily.log_prob(NormalMixture(logits, loc, scale), z.double())
    torch.testing.assert_close(mixture.log_prob(z).double(), general, rtol=1e-5, atol=1e-2)


@few
@given(data=st.data())
def test_densities_that_come_with_samples_are_those_of_the_samples(data: st.DataObject) -> None:
    for name in ("full_normal", "flow"):
        z, log_q = sample_with_density(VECTORS[name](drawer(data)), 3)
        assert log_q is not None and log_q.shape == z.shape[:-1] and log_q.isfinite().all()
    q = DiagonalNormal(torch.randn(B, D), torch.rand(B, D) + 0.1)
    flow = Flow(q, Affine(drawer(data)(-2, 2, D).exp(), torch.randn(D)))
    z, log_q = sample_with_density(flow, 3)
    assert log_q is not None
    torch.testing.assert_close(flow.log_prob(z), log_q, rtol=1e-4, atol=1e-3)


@few
@given(data=st.data())
def test_a_point_mass_is_where_it_is_and_has_no_density(data: st.DataObject) -> None:
    loc = drawer(data)(-FAR, FAR, B, D)
    delta = Delta(loc)
    assert torch.equal(delta.rsample((4,)), loc.expand(4, B, D)) and not delta.variance.any()
    with pytest.raises(NotImplementedError):
        delta.log_prob(loc)
