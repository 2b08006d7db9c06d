"""Densities, samples and temperatures of priors, and of the mixtures that some of them are."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical, Distribution, Independent, Laplace, MixtureSameFamily

from nelbo import priors
from nelbo.distributions import Delta, DiagonalNormal, FlowMixture, FullNormal, NormalMixture, even_mixture, temper
from nelbo.errors import ConfigError
from nelbo.priors.vamp import PIXEL_RANGE
from tests.helpers.factors import PRIORS, SHAPE, images, make_vae

K, D = 6, 3


def mixture(scale: float = 0.5, dtype: torch.dtype = torch.float64) -> NormalMixture:
    return NormalMixture(
        torch.randn(K, dtype=dtype), 2 * torch.randn(K, D, dtype=dtype), scale * (torch.rand(K, D, dtype=dtype) + 0.5)
    )


def test_density_of_a_mixture_equals_that_of_torch() -> None:
    p = mixture()
    expected = MixtureSameFamily(Categorical(logits=p.mixture_distribution.logits), DiagonalNormal(p.loc, p.scale))
    z = 3 * torch.randn(4, 5, D).double()
    torch.testing.assert_close(p.log_prob(z), expected.log_prob(z))
    torch.testing.assert_close(p.mean, expected.mean)


def test_mixture_of_narrow_components_is_accurate_in_float32() -> None:
    """The matrix products cancel: the squares of z / scale are 10,000 times their difference."""
    logits, loc, scale = torch.zeros(50), 3 * torch.randn(50, 20), torch.full((50, 20), 0.02)
    z = (loc + scale * torch.randn(50, 20)).requires_grad_()
    exact = NormalMixture(logits.double(), loc.double(), scale.double())
    expected = MixtureSameFamily(Categorical(logits=logits.double()), DiagonalNormal(exact.loc, exact.scale))
    log_p = NormalMixture(logits, loc, scale).log_prob(z)
    assert log_p.dtype == torch.float32
    torch.testing.assert_close(log_p.double(), expected.log_prob(z.double()), rtol=1e-6, atol=1e-5)
    (gradient,) = torch.autograd.grad(log_p.sum(), z)
    torch.testing.assert_close(gradient, -(z - loc) / scale.square(), rtol=1e-4, atol=1e-3)


def all_priors() -> dict[str, Distribution]:
    """Return p(z) of every prior with two latent dimensions, in float64, with perturbed parameters."""
    distributions = {}
    for name in PRIORS:
        vae = make_vae(prior=name, latent_dim=2).double()
        vae.prior.initialize(images().double())
        with torch.no_grad():
            for parameter in vae.prior.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
            distributions[name] = vae.prior(vae.encode)
    return distributions


@pytest.mark.parametrize("name", PRIORS)
def test_priors_integrate_to_one_and_samples_have_their_moments(name: str) -> None:
    p = all_priors()[name]
    assert p.batch_shape == () and p.event_shape == (2,)
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = p.log_prob(points).exp() * (axis[1] - axis[0]) ** 2
        samples = p.sample((40_000,))
    assert density.sum().item() == pytest.approx(1, abs=1e-3)
    for i in range(2):
        mean = (density * points[:, i]).sum()
        deviation = (density * (points[:, i] - mean).square()).sum().sqrt()
        assert abs(samples[:, i].mean() - mean) < 5 * deviation / math.sqrt(len(samples))
        assert samples[:, i].std().item() == pytest.approx(deviation.item(), rel=0.03)
    # The mean of -log p over samples is the entropy, which the grid gives too.
    entropy = -(density * density.clamp(min=1e-300).div((axis[1] - axis[0]) ** 2).log()).sum()
    with torch.no_grad():
        assert -p.log_prob(samples).mean().item() == pytest.approx(entropy.item(), abs=0.03)


@pytest.mark.parametrize("name", PRIORS)
def test_temperature_changes_the_spread_of_every_prior(name: str) -> None:
    p = all_priors()[name]
    spread = [temper(p, t).sample((4000,)).var(0).sum().item() for t in (0.1, 1.0, 2.0)]
    assert spread[0] < spread[1] < spread[2]
    z = torch.randn(5, 2).double()
    with torch.no_grad():
        torch.testing.assert_close(temper(p, 1.0).log_prob(z), p.log_prob(z))


def test_vampprior_is_the_mixture_of_posteriors_of_its_pseudo_inputs() -> None:
    vae = make_vae(prior="vamp").double()
    p, z = vae.prior(vae.encode), torch.randn(4, 5, 3).double()
    q = vae.encode(vae.prior.pseudo_inputs)
    expected = torch.logsumexp(q.log_prob(z.unsqueeze(-2)), dim=-1) - math.log(len(vae.prior.pseudo_inputs))
    torch.testing.assert_close(p.log_prob(z), expected)


@pytest.mark.parametrize("kind", ["coupling", "spline"])
def test_vampprior_of_a_flow_is_the_log_mean_of_the_densities_of_each_pseudo_input(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = make_vae(posterior=f"flow_{kind}", prior="vamp").double()
    with torch.no_grad():
        for parameter in vae.posterior.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))  # away from flows that are nearly the identity
    p, z = vae.prior(vae.encode), torch.randn(4, 5, 3).double()
    assert isinstance(p, FlowMixture) and p.batch_shape == () and p.event_shape == (3,)
    alone = [vae.encode(u.unsqueeze(0)).log_prob(z).exp() for u in vae.prior.pseudo_inputs]
    expected = torch.stack(alone).mean(0).log()
    torch.testing.assert_close(p.log_prob(z), expected)
    torch.testing.assert_close(p.log_prob(z[0, 0]), expected[0, 0])
    monkeypatch.setattr("nelbo.distributions.mixture.MOST_DENSITIES", 12)  # two of the twenty z at a time
    torch.testing.assert_close(p.log_prob(z), expected)


@torch.no_grad()
def test_samples_of_a_mixture_of_flows_come_from_all_of_them_alike() -> None:
    count = 20_000
    vae = make_vae(posterior="flow_coupling", prior="vamp")
    for parameter in vae.posterior.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    p = vae.prior(vae.encode)
    samples = p.sample((4, count // 4))
    assert samples.shape == (4, count // 4, 3) and p.sample().shape == (3,)
    z = samples.reshape(-1, 3)
    direct = p.flows.sample((count,)).flatten(0, 1)  # as many of each component
    for one, other in ((z, direct), (z.square(), direct.square())):
        error = (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() < 4 * error).all()
    # The density of the same distribution: E_p[r / p] = 1 for a normalised r that is narrower than p.
    r = DiagonalNormal(z.mean(0), 0.5 * z.std(0))
    ratio = (r.log_prob(z) - p.log_prob(z)).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(count) < 0.1
    assert (z[1:] - z[:-1]).norm(dim=-1).min() > 0  # no sample is given twice


def test_vampprior_starts_at_training_images_or_at_their_mean() -> None:
    x = (torch.rand(50, *SHAPE) > 0.7).float()
    prior = priors.VampPrior((3,), SHAPE, components=20, from_data=True)
    prior.initialize(x)
    clamped = x.clamp(PIXEL_RANGE, 1 - PIXEL_RANGE).flatten(1)
    distance = (prior.pseudo_inputs.flatten(1).unsqueeze(1) - clamped).norm(dim=-1)
    assert (distance.min(dim=1).values < 1e-5).all() and len(set(distance.argmin(dim=1).tolist())) > 10
    more = priors.VampPrior((3,), SHAPE, components=70, from_data=True)
    more.initialize(x)
    distance = torch.cdist(more.pseudo_inputs.flatten(1), more.pseudo_inputs.flatten(1))
    assert len(distance) == 70 and (distance + 10 * torch.eye(70)).min() > 0.02  # equal pseudo-inputs would stay equal
    prior = priors.VampPrior((3,), SHAPE, components=2000, from_data=False)
    prior.initialize(x)
    assert (prior.pseudo_inputs.mean(0) - x.mean(0).clamp(0.02, 0.98)).abs().max() < 0.05


@pytest.mark.parametrize("posterior", ["deterministic", "flow_autoregressive"])
def test_vampprior_rejects_posteriors_without_a_direct_density(posterior: str) -> None:
    vae = make_vae(posterior=posterior, prior="vamp")
    with pytest.raises(ConfigError, match="prior=vamp: is a mixture of q.* use prior=mixture"):
        vae.trace(images())


def test_mixtures_of_other_distributions_raise_or_are_tempered() -> None:
    with pytest.raises(NotImplementedError, match="Delta"):
        even_mixture(Delta(torch.zeros(3, 2)))
    full = FullNormal(torch.zeros(K, D), torch.eye(D).expand(K, D, D))
    laplace = Independent(Laplace(torch.zeros(K, D), torch.ones(K, D)), 1)
    for components in (full, laplace):
        cold = temper(even_mixture(components), 0.5)
        torch.testing.assert_close(cold.variance, even_mixture(components).variance / 4)
    vae = make_vae(posterior="flow_spline", prior="vamp")
    flows = vae.prior(vae.encode)
    assert isinstance(flows, FlowMixture)
    half, z = temper(flows, 0.5), torch.randn(2, 3)
    torch.testing.assert_close(half.log_prob(z), even_mixture(temper(flows.flows, 0.5)).log_prob(z))
