"""Samples of likelihoods follow their distribution in float32, over the whole range of parameters of their heads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nelbo.distributions import (
    BernoulliPixels,
    BetaPixels,
    CategoricalPixels,
    ContinuousBernoulli,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
)
from nelbo.distributions.discretized import Discretized
from nelbo.heads.beta import CONCENTRATION_FLOOR, LOGIT_BOUND, concentration_ceiling

COUNT = 100_000
LOGITS = [-30.0, -20.0, -15.0, -7.0, -1.0, -0.25, -0.15, -1e-3, 0.0, 1e-3, 0.15, 0.25, 1.0, 7.0, 15.0, 20.0, 30.0]


def exact_cdf(logit: float, x: Tensor) -> Tensor:
    """Return P(value <= x) of a continuous Bernoulli, in float64."""
    return torch.expm1(logit * x) / math.expm1(logit) if logit else x


def assert_mean(samples: Tensor, mean: Tensor | float, variance: Tensor | None = None) -> None:
    """Check the mean of samples (N, ...), within 5 standard errors by `variance` or the variance of the samples."""
    samples = samples.double()
    error = ((samples.var(0) if variance is None else variance) / len(samples)).sqrt()
    assert ((samples.mean(0) - mean).abs() <= 5 * error + 1e-7).all(), (samples.mean(0), mean, error)


@pytest.mark.parametrize("logit", LOGITS)
def test_samples_of_a_continuous_bernoulli_follow_its_cdf(logit: float) -> None:
    p = ContinuousBernoulli(torch.tensor(logit))
    samples = p.sample(torch.Size((COUNT,)))
    assert samples.dtype == torch.float32 and 0 <= samples.min() and samples.max() <= 1
    half = logit / 2
    mean = 0.5 + (1 / math.tanh(half) - 1 / half) / 2 if abs(logit) > 1e-2 else 0.5 + logit / 12
    assert_mean(samples, mean)
    # Kolmogorov-Smirnov: the probability of a distance above 1.95 / sqrt(N) is 0.001.
    steps = torch.arange(1, COUNT + 1).double() / COUNT
    assert (exact_cdf(logit, samples.double().sort().values) - steps).abs().max() < 1.95 / math.sqrt(COUNT)


@pytest.mark.parametrize("logit", LOGITS)
def test_quantiles_and_moments_of_a_continuous_bernoulli_are_accurate_in_float32(logit: float) -> None:
    p, u = ContinuousBernoulli(torch.tensor(logit)), torch.linspace(0, 1, 257)
    torch.testing.assert_close(exact_cdf(logit, p.icdf(u).double()), u.double(), rtol=0, atol=2e-6)
    torch.testing.assert_close(p.cdf(u).double(), exact_cdf(logit, u.double()), rtol=0, atol=1e-6)
    x = torch.linspace(0, 1, 200_001).double()
    density = ContinuousBernoulli(torch.tensor(logit).double()).log_prob(x).exp()
    mean = torch.trapezoid(density * x, x)
    torch.testing.assert_close(p.mean.double(), mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(p.variance.double(), torch.trapezoid(density * (x - mean) ** 2, x), rtol=1e-5, atol=0)
    torch.testing.assert_close(p.entropy().double(), -torch.trapezoid(density * density.log(), x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", LOGITS)
def test_gradients_of_reparameterised_samples_of_a_continuous_bernoulli(logit: float) -> None:
    """Their mean is dE[x]/dl = Var[x], as in any exponential family; each agrees with finite differences in float64."""
    parameter = torch.full((COUNT,), logit, requires_grad=True)
    p = ContinuousBernoulli(parameter)
    (gradient,) = torch.autograd.grad(p.rsample().sum(), parameter)
    assert gradient.isfinite().all() and (gradient >= 0).all()
    assert_mean(gradient, p.variance[0].double())
    u, step = torch.linspace(0.01, 0.99, 99), 1e-3
    parameter = torch.full((99,), logit, requires_grad=True)
    (gradient,) = torch.autograd.grad(ContinuousBernoulli(parameter).icdf(u).sum(), parameter)
    above, below = (ContinuousBernoulli(torch.tensor(logit + d).double()).icdf(u.double()) for d in (step, -step))
    torch.testing.assert_close(gradient.double(), (above - below) / (2 * step), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("noise", [DiscretizedLogistic.noise, DiscretizedGaussian.noise])
def test_noise_is_symmetric_about_zero_at_the_extremes(noise: type[Discretized]) -> None:
    """One in 17 million uniform numbers of 24 bits is 0; its logit must not be the extreme of float32."""
    uniform = torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "rand", lambda *_, **__: uniform)
        patch.setattr(torch, "randn", lambda *_, **__: uniform - 0.5)
        samples = noise((4,), torch.zeros(()))  # type: ignore[operator]
    assert samples[2] == 0 and samples[0] >= -18 and samples[3] <= 18
    assert samples[0] <= samples[1] < 0 < samples[3]


@pytest.mark.parametrize("concentration", [CONCENTRATION_FLOOR, 0.3, 1.0, 30.0, concentration_ceiling(256)])
def test_samples_of_beta_pixels_have_their_mean(concentration: float) -> None:
    logits = torch.tensor([-LOGIT_BOUND, -6.0, -1.0, 0.0, 1.0, 6.0, LOGIT_BOUND]).reshape(7, 1, 1)
    px = BetaPixels(logits, torch.tensor(concentration), 256)
    y = torch.sigmoid(logits.double())
    variance = y * (1 - y) / (concentration + 1)
    samples = px.sample(torch.Size((COUNT,)))
    assert_mean(samples, (y * 256 - 0.5) / 255, variance * (256 / 255) ** 2)
    squares = ((samples.double() * 255 + 0.5) / 256 - y)[
        :, 2:5
    ] ** 2  # for the other logits a few samples dominate the mean
    assert_mean(squares, variance[2:5])


def test_samples_of_discrete_pixels_have_their_mean() -> None:
    """The parameters include rare classes and components with a small weight."""
    logits = torch.tensor([-9.0, -4.0, 0.0, 4.0, 9.0]).reshape(5, 1, 1)
    assert_mean(BernoulliPixels(logits).sample(torch.Size((COUNT,))), torch.sigmoid(logits.double()))
    levels = torch.stack([logits, 0 * logits, -logits], dim=1)  # (C, L, H, W)
    assert_mean(CategoricalPixels(levels).sample(torch.Size((COUNT,))), CategoricalPixels(levels.double()).mean)
    loc = torch.tensor([-0.2, 0.0, 0.3, 1.0, 1.1]).reshape(5, 1, 1)
    for kind in (DiscretizedLogistic, DiscretizedGaussian):
        for scale in (1e-4, 0.01, 0.5, 10.0):
            px, double = (kind(part, torch.tensor(scale).to(part), 256) for part in (loc, loc.double()))
            assert_mean(px.sample(torch.Size((COUNT,))), double.mean)
    weights, scales = torch.tensor([-9.0, 0.0, 2.0]).reshape(3, 1, 1), torch.tensor([0.5, 0.01, 0.1])
    parts = [weights, torch.tensor([0.9, 0.1, 0.5]).reshape(1, 3, 1, 1), scales.reshape(1, 3, 1, 1)]
    parts.append(torch.zeros(0, 3, 1, 1))
    px, double = (DiscretizedLogisticMixture(*kind, 256) for kind in (parts, [part.double() for part in parts]))
    assert_mean(px.sample(torch.Size((COUNT,))), double.mean)
