"""Densities, learned scales and saturation of heads with real-valued pixels or latents."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from nelbo.distributions import Flow, FullNormal
from nelbo.errors import ConfigError
from nelbo.heads import (
    Bernoulli,
    ContinuousBernoulli,
    DiagonalNormalPosterior,
    FixedGaussian,
    LearnedGaussian,
    OptimalGaussian,
    PerChannelGaussian,
    PerPixelGaussian,
)
from nelbo.heads.bernoulli import CONTINUOUS_LOGIT_BOUND
from nelbo.heads.bounds import POSITIVE_FLOOR
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.posterior import LOG_SCALE_BOUND
from tests.helpers.factors import POSTERIORS

PIXEL = (1, 1, 1)
FEATURES = torch.linspace(-60, 60, 41).unsqueeze(1)
GAUSSIANS = [
    lambda f, s: FixedGaussian(f, s, sigma=0.2),
    LearnedGaussian,
    PerChannelGaussian,
    PerPixelGaussian,
    OptimalGaussian,
]


def test_bernoulli_probabilities_sum_to_one() -> None:
    px = Bernoulli((1,), PIXEL)(FEATURES)
    total = sum(px.log_prob(torch.full(PIXEL, value)).exp() for value in (0.0, 1.0))
    torch.testing.assert_close(total, torch.ones(41))


def test_continuous_bernoulli_integrates_to_one_and_has_the_exact_density() -> None:
    head = ContinuousBernoulli((1,), PIXEL)
    with torch.no_grad():
        head.project.layers[0].weight.fill_(1.0)
        head.project.layers[0].bias.zero_()
    px = head(FEATURES)
    x = torch.linspace(0, 1, 20001).double()
    density = px.log_prob(x.reshape(-1, 1, 1, 1, 1)).exp()
    torch.testing.assert_close(torch.trapezoid(density, x, dim=0), torch.ones(41).double(), rtol=1e-5, atol=0)
    mean = torch.trapezoid(density * x.unsqueeze(1), x, dim=0)
    torch.testing.assert_close(px.mean.flatten().double(), mean, rtol=1e-5, atol=0)
    # log p(x) = l x + log(l / (e^l - 1)), in float64.
    logit = CONTINUOUS_LOGIT_BOUND * torch.tanh(FEATURES.double().squeeze(1) / CONTINUOUS_LOGIT_BOUND)
    normaliser = torch.where(logit.abs() < 1e-6, -logit / 2, (logit / torch.expm1(logit)).log())
    for value in (0.0, 0.3, 1.0):
        exact = (logit * value + normaliser).float()
        torch.testing.assert_close(px.log_prob(torch.full(PIXEL, value)), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", GAUSSIANS)
def test_gaussian_log_prob_is_the_normal_density(head: type) -> None:
    likelihood = head((3,), (1, 2, 2)).eval()
    px = likelihood(torch.randn(5, 3))
    assert isinstance(px, Independent) and isinstance(px.base_dist, Normal)
    x = torch.rand(5, 1, 2, 2)
    loc, scale = px.base_dist.loc, px.base_dist.scale
    exact = -0.5 * ((x - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(px.log_prob(x), exact.sum((1, 2, 3)))


@pytest.mark.parametrize("head", [LearnedGaussian, PerPixelGaussian, OptimalGaussian])
def test_density_of_constant_pixels_is_bounded(head: type) -> None:
    """Trained on a constant image, sigma converges to its lower bound, and the loss to a finite value."""
    likelihood = head((1,), (1, 4, 4))
    likelihood.initialize(torch.full((10, 1, 4, 4), 0.5))
    x, features = torch.full((8, 1, 4, 4), 0.5), torch.zeros(8, 1)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -likelihood(features, x).log_prob(x).mean()
        loss.backward()
        optimizer.step()
    bound = 16 * (math.log(SIGMA_FLOOR) + 0.5 * math.log(2 * math.pi))
    assert loss.item() >= bound - 1e-3
    assert likelihood.eval()(features).base_dist.scale.min() >= SIGMA_FLOOR * (1 - 1e-6)


def test_invalid_fixed_sigma_raises() -> None:
    for sigma in (0, -1, "wide", 1e-6, float("nan")):
        with pytest.raises(ConfigError, match="sigma="):
            FixedGaussian((1,), PIXEL, sigma=sigma)  # type: ignore[arg-type]


def test_optimal_sigma_is_the_root_mean_squared_error_and_has_zero_gradient() -> None:
    likelihood = OptimalGaussian((3,), (1, 4, 4))
    features, x = torch.randn(2, 6, 3), torch.rand(6, 1, 4, 4)
    px = likelihood(features, x)
    error = (x - px.mean).square().mean()
    torch.testing.assert_close(px.base_dist.scale.unique(), (error + SIGMA_FLOOR**2).sqrt().reshape(1).detach())
    # This sigma maximises the likelihood of the batch.
    sigma = px.base_dist.scale.flatten()[0].detach().requires_grad_()
    Normal(px.mean.detach(), sigma).log_prob(x).sum().backward()
    assert sigma.grad is not None and abs(sigma.grad.item()) < 0.05


def test_evaluation_uses_the_running_optimal_sigma() -> None:
    likelihood = OptimalGaussian((3,), (1, 4, 4))
    features, x = torch.randn(6, 3), torch.rand(6, 1, 4, 4)
    for _ in range(200):
        scale = likelihood(features, x).base_dist.scale.flatten()[0]
    with torch.no_grad():
        likelihood.variance.fill_(1.0)  # far from the optimum; each batch has a weight of 0.1
        error = (x - likelihood(features, x).mean).square().mean()
        torch.testing.assert_close(likelihood.variance, 0.9 + 0.1 * error)
        likelihood.variance.copy_(error)
    running = likelihood.eval()(features, x + 1).base_dist.scale.flatten()[0]
    torch.testing.assert_close(running, scale)


def test_saturated_posterior_has_a_finite_kl() -> None:
    from torch.distributions import kl_divergence

    from nelbo.priors import StandardNormal

    features = torch.full((2, 3), 1e4, requires_grad=True)
    posterior = DiagonalNormalPosterior((3,), 2)
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.fill_(1.0)
    q = posterior(features)
    torch.testing.assert_close(q.scale, torch.full((2, 2), math.exp(LOG_SCALE_BOUND)))
    assert kl_divergence(q, StandardNormal((2,), PIXEL)(posterior)).isfinite().all()  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["diagonal_normal", "full_normal", "laplace", "flow_coupling"])
def test_softplus_scales_grow_linearly(name: str) -> None:
    """The exponential makes a scale of thousands of an output of 12, with which z ends the training of a hierarchy."""
    posterior = POSTERIORS[name]((3,), 2, scale="softplus")
    with torch.no_grad():
        for parameter in posterior.project.parameters():
            parameter.zero_()
    torch.testing.assert_close(scale_of(posterior(torch.zeros(4, 3))), torch.full((4, 2), 1.0 + POSITIVE_FLOOR))
    with torch.no_grad():
        posterior.project.layers[0].bias[2:4] = 12.0
    scales = scale_of(posterior(torch.zeros(4, 3)))
    assert (scales > 12.0).all() and (scales < 12.1).all()
    with pytest.raises(ConfigError, match="scale=cube: must be one of exp, softplus"):
        POSTERIORS[name]((3,), 2, scale="cube")


def scale_of(q: Distribution) -> Tensor:
    """Return the scales that a posterior's head predicts, (B, D)."""
    q = q.base if isinstance(q, Flow) else q
    if isinstance(q, FullNormal):
        return q.scale_tril.diagonal(dim1=-2, dim2=-1)
    return q.base_dist.scale if isinstance(q, Independent) else q.scale
