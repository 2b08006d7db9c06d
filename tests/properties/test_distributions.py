"""Distributions with extreme parameters: values and gradients are finite, and KLs are not negative.

Scales go up to the bounds of heads and priors, and other parameters up to 1e4 in absolute value.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MixtureSameFamily, kl_divergence

from nelbo.distributions import (
    Delta,
    DiagonalNormal,
    Flow,
    FullNormal,
    NormalMixture,
    StandardNormal,
    mean_of,
    sample_with_density,
    temper,
    two_means,
)
from tests.helpers.extremes import (
    FAR,
    LEVELS,
    MIXTURES,
    VECTORS,
    Affine,
    B,
    C,
    D,
    H,
    K,
    W,
    assert_finite,
    diagonal,
    drawer,
    few,
    log_scales,
    pixels,
    recording,
)


@pytest.mark.parametrize("name", [*VECTORS, *MIXTURES])
@few
@given(data=st.data())
def test_distributions_over_vectors_are_finite(name: str, data: st.DataObject) -> None:
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
    """The images are samples, clamped to [0, 1], random levels, and all pixels 0 or 1."""
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


@pytest.mark.parametrize("name", [*sorted(VECTORS.keys() - {"flow"}), *pixels(2)])  # flows have no `expand`
@few
@given(data=st.data())
def test_expanded_distributions_are_equal(name: str, data: st.DataObject) -> None:
    distribution = {**VECTORS, **pixels(17)}[name](drawer(data))
    larger = distribution.expand(torch.Size((3, B)))
    assert larger.batch_shape == (3, B) and larger.event_shape == distribution.event_shape
    x = distribution.sample()
    for log_p in larger.log_prob(x):
        torch.testing.assert_close(log_p, distribution.log_prob(x))
    assert larger.sample(torch.Size((2,))).shape == (2, 3, *x.shape)


@pytest.mark.parametrize("name", ["diagonal_normal", "standard_normal", "full_normal", "laplace"])
@few
@given(data=st.data())
def test_kl_is_not_negative(name: str, data: st.DataObject) -> None:
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
def test_kl_of_equal_distributions_is_zero(data: st.DataObject) -> None:
    p = diagonal(drawer(data))
    plain = DiagonalNormal(p.loc, p.scale)
    for ratio in (0.9, 1.1):  # the KL is about 0.01 per dimension
        expected = torch.full((B,), D * (0.5 * (ratio**-2 - 1) + math.log(ratio)))
        torch.testing.assert_close(kl_divergence(p, DiagonalNormal(p.loc, p.scale * ratio)), expected)
    factor = FullNormal(p.loc, torch.diag_embed(p.scale))
    for kl in (kl_divergence(p, p), kl_divergence(plain, plain), kl_divergence(factor, plain)):
        torch.testing.assert_close(kl, torch.zeros(B), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [*VECTORS, *MIXTURES])
@few
@given(data=st.data(), temperature=st.floats(1e-3, 10))
def test_temperature_scales_the_noise(name: str, data: st.DataObject, temperature: float) -> None:
    """Deviations from the samples at temperature 0 are proportional to the temperature; 1 changes nothing."""
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
def test_fast_density_of_a_mixture_equals_that_of_torch(data: st.DataObject) -> None:
    """|loc| is at most 2e6 times the smallest scale, up to which its products in float64 are accurate."""
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
def test_densities_that_come_with_samples_are_correct(data: st.DataObject) -> None:
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
def test_point_mass_has_samples_and_no_density(data: st.DataObject) -> None:
    loc = drawer(data)(-FAR, FAR, B, D)
    delta = Delta(loc)
    assert torch.equal(delta.rsample((4,)), loc.expand(4, B, D)) and not delta.variance.any()
    with pytest.raises(NotImplementedError):
        delta.log_prob(loc)
