"""The mathematics of the posteriors: densities, samples and KLs. Flows have a file of their own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Distribution, Independent, MultivariateNormal, kl_divergence

from nelbo.distributions import DiagonalNormal, StandardNormal
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
def test_the_kl_is_closed_and_what_samples_say(kind: type[Posterior], standard: bool) -> None:
    q, p = posterior(kind), StandardNormal(torch.zeros(D).double()) if standard else gaussian()
    closed = kl_divergence(q, p)
    with torch.no_grad():
        z = q.sample((100_000,))
        ratio = q.log_prob(z) - p.log_prob(z)
    assert ((ratio.mean(0) - closed).abs() < 4 * ratio.std(0) / math.sqrt(len(z))).all()
    assert (closed > 0.01).all()


def test_the_kl_of_a_full_normal_is_torchs_and_zero_at_itself() -> None:
    q, p = posterior(FullNormalPosterior), gaussian()
    full = MultivariateNormal(p.loc, scale_tril=torch.diag(p.scale))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(q, full))
    torch.testing.assert_close(kl_divergence(full, p), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)


def test_a_full_normal_with_a_diagonal_factor_is_the_diagonal_one() -> None:
    head, diagonal = FullNormalPosterior((5,), D), DiagonalNormalPosterior((5,), D)
    with torch.no_grad():
        for full, plain in zip(head.project.parameters(), diagonal.project.parameters(), strict=True):
            full.zero_()[: 2 * D] = plain
    features, z = torch.randn(4, 5), torch.randn(7, 4, D)
    torch.testing.assert_close(head(features).log_prob(z), diagonal(features).log_prob(z))


def test_a_full_normal_has_a_covariance_between_all_units() -> None:
    q = posterior(FullNormalPosterior)
    assert isinstance(q, MultivariateNormal)
    drawn = q.sample((100_000,))
    for index in range(len(q.loc)):
        exact = q.covariance_matrix[index]
        spread = (exact.square() + torch.outer(exact.diagonal(), exact.diagonal())).sqrt()
        assert ((torch.cov(drawn[:, index].T) - exact).abs() < 5 * spread / math.sqrt(len(drawn))).all()
        off = exact - torch.diag(exact.diagonal())
        assert (off.abs().sum(0) > 0.01).all()


def test_laplace_samples_have_its_moments() -> None:
    q = posterior(LaplacePosterior)
    assert isinstance(q, Independent)
    drawn, scale = q.sample((100_000,)), q.base_dist.scale
    assert ((drawn.mean(0) - q.mean).abs() < 5 * math.sqrt(2 / 100_000) * scale).all()
    # E|z - mu| = b, with variance b^2.
    assert (((drawn - q.mean).abs().mean(0) - scale).abs() < 5 * scale / math.sqrt(100_000)).all()


@pytest.mark.parametrize("kind", [DiagonalNormalPosterior, FullNormalPosterior, LaplacePosterior])
def test_saturated_features_leave_everything_finite(kind: type[Posterior]) -> None:
    head = kind((5,), D)  # type: ignore[call-arg]
    for size in (-1e4, 1e4):
        features = torch.full((2, 5), size, requires_grad=True)
        q = head(features)
        kl = kl_divergence(q, StandardNormal(torch.zeros(D)))
        kl.sum().backward()
        assert kl.isfinite().all() and q.rsample().isfinite().all()
        assert features.grad is not None and features.grad.isfinite().all()
