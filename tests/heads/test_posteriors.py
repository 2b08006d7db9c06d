"""The mathematics of the posteriors: densities, samples and KLs. Flows have a file of their own."""

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
    assert isinstance(q, FullNormal)
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
        z, log_q = sample_with_density(q, 3)
        assert kl.isfinite().all() and z.isfinite().all()
        assert (q.log_prob(z) if log_q is None else log_q).isfinite().all()
        assert features.grad is not None and features.grad.isfinite().all()


def test_the_density_of_a_full_normal_is_torchs_and_comes_with_its_samples() -> None:
    q = posterior(FullNormalPosterior)
    assert isinstance(q, FullNormal)
    z, log_q = sample_with_density(q, 7)
    assert log_q is not None and z.shape == (7, 4, D) and log_q.shape == (7, 4)
    torch.testing.assert_close(log_q, MultivariateNormal(q.loc, scale_tril=q.scale_tril).log_prob(z))
    torch.testing.assert_close(log_q, q.log_prob(z))
    other = torch.randn(6, 2, 1, D).double()  # against all four at once, as a mixture asks
    torch.testing.assert_close(
        q.log_prob(other), torch.stack([q.log_prob(other[:, :, 0:1, :])[..., i] for i in range(4)], -1)
    )


def test_strong_correlations_of_fifty_units_keep_their_digits_in_float32() -> None:
    """A triangular solve in float32 is off by nats here, and by 1e15 with twice the correlation."""
    below = torch.randn(3, 50, 50).tril(-1)
    q = FullNormal(torch.randn(3, 50), 0.1 * (torch.eye(50) + below))
    z, log_q = sample_with_density(q, 20)
    exact = MultivariateNormal(q.loc.double(), scale_tril=q.scale_tril.double())
    assert log_q is not None
    assert (q.log_prob(z).double() - exact.log_prob(z.double())).abs().max() < 1e-3
    # What comes with a sample is of the noise that made it: |e|^2 is chi-squared of 50, whatever the correlations.
    squares = -2 * (log_q - 50 * math.log(10)) - 50 * math.log(2 * math.pi)
    assert abs(squares.mean() - 50) < 5 * 10 / math.sqrt(60) and abs(squares.std() - 10) < 4
