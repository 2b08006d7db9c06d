"""Log-probabilities, KLs and gradients of traces against independent computations."""

import math

import torch
from torch.distributions import Independent, Normal, StudentT

from nelbo.distributions import DiagonalNormal
from nelbo.models import VAE
from nelbo.objectives import NegativeELBO
from nelbo.trace import Latent, Trace
from tests.helpers.factors import LATENT_DIM, images, make_vae


def test_elbo_estimator_agrees_with_quadrature_in_one_dimension() -> None:
    """One latent and a nonlinear decoder: E_q[log p(x|z)] by quadrature, the KL by the formula of Kingma & Welling."""
    model = make_vae("mlp", likelihood="bernoulli", latent_dim=1).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # away from the linear regime
    x = images("bernoulli", 3).double()
    q = model.encode(x)
    assert isinstance(q, DiagonalNormal)
    grid = torch.linspace(-9, 9, 4001).double()
    z = q.loc + q.scale * grid.reshape(-1, 1, 1)
    weight = Normal(0.0, 1.0).log_prob(grid).exp().double().reshape(-1, 1)
    reconstruction = torch.trapezoid(weight * model.decode(z).log_prob(x), grid, dim=0)
    kl = 0.5 * (q.loc.square() + q.scale.square() - 1 - 2 * q.scale.log()).sum(-1)
    exact = -(reconstruction - kl).mean()

    samples = 20_000
    with torch.no_grad():
        trace = model.trace(x, samples)
        estimate = NegativeELBO(beta=1.0, num_samples=samples)(trace, 0).total
        error = (trace.log_px.std(0) / math.sqrt(samples)).square().sum().sqrt() / len(x)
    assert abs(estimate - exact) < 4 * error
    assert error < 0.01 * abs(exact)


def test_elbo_is_a_lower_bound_and_importance_weights_average_to_p_x() -> None:
    """With log p(x) of one latent by quadrature: ELBO <= log p(x), and the mean importance weight is p(x)."""
    model = make_vae("mlp", likelihood="bernoulli", latent_dim=1).double().eval()
    x = images("bernoulli", 3).double()
    grid = torch.linspace(-9, 9, 4001).double()
    log_joint = model.log_joint(x, [grid.reshape(-1, 1, 1).expand(-1, 3, -1)])
    log_p = torch.trapezoid(log_joint.exp(), grid, dim=0).log()
    with torch.no_grad():
        trace = model.trace(x, 50_000)
    assert ((trace.log_px - trace.kl).mean(0) <= log_p + 1e-3).all()
    weight = trace.log_weight.sub(log_p).exp()  # relative to p(x): the mean is 1
    assert ((weight.mean(0) - 1).abs() < 4 * weight.std(0) / math.sqrt(50_000)).all()


def test_kl_is_a_monte_carlo_estimate_only_without_a_closed_form() -> None:
    z = torch.randn(4, 5, 2)
    q, p = Independent(StudentT(5.0, torch.zeros(5, 2), 1.0), 1), DiagonalNormal(torch.zeros(2), torch.ones(2))
    latent = Latent(q, p, z)
    torch.testing.assert_close(latent.kl, q.log_prob(z) - p.log_prob(z))
    closed = Latent(DiagonalNormal(torch.ones(5, 2), torch.ones(5, 2)), p, z)
    torch.testing.assert_close(closed.kl, torch.ones(4, 5))
    assert "log_q" not in vars(closed) and "log_p" not in vars(closed)


def test_sampled_log_q_is_used_unchanged() -> None:
    q = DiagonalNormal(torch.zeros(5, 2), torch.ones(5, 2))
    given = torch.randn(4, 5)
    assert Latent(q, q, torch.randn(4, 5, 2), sampled_log_q=given).log_q is given


def test_score_is_the_gradient_with_respect_to_z_only() -> None:
    loc, scale = torch.randn(5, 2, requires_grad=True), torch.rand(5, 2) + 0.5
    z = DiagonalNormal(loc, scale).rsample((3,))
    score = Latent(DiagonalNormal(loc, scale), DiagonalNormal(loc, scale), z).score()
    torch.testing.assert_close(score, (-(z - loc) / scale.square()).detach())
    assert not score.requires_grad and loc.grad is None


def test_kl_and_log_weights_sum_over_levels() -> None:
    q, p = DiagonalNormal(torch.ones(5, 2), torch.ones(5, 2)), DiagonalNormal(torch.zeros(2), torch.ones(2))
    latent = Latent(q, p, torch.randn(4, 5, 2))
    px = Independent(Normal(torch.zeros(4, 5, 1, 2, 2), 1.0), 3)
    one, two = (Trace(torch.zeros(5, 1, 2, 2), px, (latent,) * levels) for levels in (1, 2))
    torch.testing.assert_close(two.kl, 2 * one.kl)
    torch.testing.assert_close(two.log_weight - two.log_px, 2 * (one.log_weight - one.log_px))


def test_more_samples_reduce_the_variance_and_keep_the_mean() -> None:
    model: VAE = make_vae()
    x = images(count=1)
    with torch.no_grad():
        one = model.trace(x, 20_000).log_px
        ten = model.trace(x, 20_000).log_px.reshape(2_000, 10).mean(1)
    assert abs(one.mean() - ten.mean()) < 5 * one.std() / math.sqrt(20_000) * math.sqrt(2)
    assert 0.7 < (one.var() / ten.var() / 10) < 1.4
    assert model.encode(x).event_shape == (LATENT_DIM,)
