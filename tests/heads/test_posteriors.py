"""Densities, samples and KLs of posteriors; those of flows are in tests/distributions/test_flows.py."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, MultivariateNormal, kl_divergence

from nelbo.distributions import DiagonalNormal, FullNormal, StandardNormal, sample_with_density
from nelbo.heads import DiagonalNormalPosterior, FullNormalPosterior, LaplacePosterior, Posterior

D = 3


def posterior(kind: type[Posterior], batch: int = 4) -> Distribution:
    head = kind((5,), D).double()  # type: ignore[call-arg]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    q: Distribution = head(torch.randn(batch, 5).double())
    return q


def gaussian() -> DiagonalNormal:
    return DiagonalNormal(torch.randn(D).double(), torch.rand(D).double() + 0.5)


@pytest.mark.parametrize("kind", [DiagonalNormalPosterior, FullNormalPosterior, LaplacePosterior])
@pytest.mark.parametrize("standard", [True, False])
def test_kl_has_a_closed_form_that_agrees_with_samples(kind: type[Posterior], standard: bool) -> None:
    q, p = posterior(kind), StandardNormal(torch.zeros(D).double()) if standard else gaussian()
    closed = kl_divergence(q, p)
    with torch.no_grad():
        z = q.sample((100_000,))
        ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - closed).abs() < 4 * ratio.std(0) / math.sqrt(len(z))).all()
    assert (closed > 0.01).all()


def test_kl_of_a_full_normal_equals_that_of_torch_and_is_zero_for_equal_ones() -> None:
    q, p = posterior(FullNormalPosterior), gaussian()
    full = MultivariateNormal(p.loc, scale_tril=torch.diag(p.scale))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q, full))
    torch.testing.assert_close(kl_divergence(full, p), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)


def test_full_normal_with_a_diagonal_factor_is_a_diagonal_normal() -> None:
    head, diagonal = FullNormalPosterior((5,), D), DiagonalNormalPosterior((5,), D)
    with torch.no_grad():
        for full, plain in zip(head.project.parameters(), diagonal.project.parameters(), strict=True):
            full.zero_()[: 2 * D] = plain
    features, z = torch.randn(4, 5), torch.randn(7, 4, D)
    torch.testing.assert_close(head(features).log_prob(z), diagonal(features).log_prob(z))


def test_full_normal_has_covariances_between_all_units() -> None:
    q = posterior(FullNormalPosterior)
    assert isinstance(q, FullNormal)
    samples = q.sample((100_000,))
    for index in range(len(q.loc)):
        exact = q.covariance_matrix[index]
        spread = (exact.square() + torch.outer(exact.diagonal(), exact.diagonal())).sqrt()
        assert ((torch.cov(samples[:, index].T) - exact).abs() < 5 * spread / math.sqrt(len(samples))).all()
        off_diagonal = exact - torch.diag(exact.diagonal())
        assert (off_diagonal.abs().sum(0) > 0.01).all()


def test_samples_of_laplace_have_its_moments() -> None:
    q = posterior(LaplacePosterior)
    assert isinstance(q, Independent)
    samples, scale = q.sample((100_000,)), q.base_dist.scale
    assert ((samples.mean(0) - q.mean).abs() < 5 * math.sqrt(2 / 100_000) * scale).all()
    # |z - mu| has mean b and variance b^2.
    assert (((samples - q.mean).abs().mean(0) - scale).abs() < 5 * scale / math.sqrt(100_000)).all()


@pytest.mark.parametrize("kind", [DiagonalNormalPosterior, FullNormalPosterior, LaplacePosterior])
def test_values_and_gradients_are_finite_for_saturated_features(kind: type[Posterior]) -> None:
    head = kind((5,), D)  # type: ignore[call-arg]
    for size in (-1e4, 1e4):
        features = torch.full((2, 5), size, requires_grad=True)
        q = head(features)
        kl = kl_divergence(q, StandardNormal(torch.zeros(D)))
        kl.sum().backward()
        z, log_q = sample_with_density(q, 3)
        assert kl.isfinite().all() and z.isfinite().all()
        assert (q.log_prob(z) if log_q is None else log_q).isfinite().all()
        assert features.grad is not None and features.grad.isfinite().all()


def test_density_of_a_full_normal_equals_that_of_torch_and_comes_with_samples() -> None:
    q = posterior(FullNormalPosterior)
    assert isinstance(q, FullNormal)
    z, log_q = sample_with_density(q, 7)
    assert log_q is not None and z.shape == (7, 4, D) and log_q.shape == (7, 4)
    torch.testing.assert_close(log_q, MultivariateNormal(q.loc, scale_tril=q.scale_tril).log_prob(z))
    torch.testing.assert_close(log_q, q.log_prob(z))
    other = torch.randn(6, 2, 1, D).double()  # broadcast against all four distributions, as in a mixture
    torch.testing.assert_close(
        q.log_prob(other), torch.stack([q.log_prob(other[:, :, 0:1, :])[..., i] for i in range(4)], -1)
    )


def test_full_normal_with_strong_correlations_is_accurate_in_float32() -> None:
    """The error of a triangular solve in float32 would be nats here, and 1e15 with twice the correlation."""
    below = torch.randn(3, 50, 50).tril(-1)
    q = FullNormal(torch.randn(3, 50), 0.1 * (torch.eye(50) + below))
    z, log_q = sample_with_density(q, 20)
    exact = MultivariateNormal(q.loc.double(), scale_tril=q.scale_tril.double())
    assert log_q is not None
    assert (q.log_prob(z).double() - exact.log_prob(z.double())).abs().max() < 1e-3
    # The density that comes with samples is computed from their noise e, whose |e|^2 has a chi-squared distribution.
    squares = -2 * (log_q - 50 * math.log(10)) - 50 * math.log(2 * math.pi)
    assert abs(squares.mean() - 50) < 5 * 10 / math.sqrt(60) and abs(squares.std() - 10) < 4
