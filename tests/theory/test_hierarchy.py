"""Linear models with several levels: against a joint Gaussian, Monte Carlo, quadrature and optimisation.

Shapes: B images of P pixels, L levels of D_1, ..., D_L latents.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from nelbo.errors import ConfigError
from nelbo.theory.gaussians import LinearGaussian, independent, standard_normal
from nelbo.theory.hierarchy import LinearHierarchy, LinearPosterior
from tests.helpers.descent import minimize
from tests.helpers.hierarchies import conditional, linear_hierarchy, linear_posterior, normal

SIZES = [(3, 2, 2), (4, 1, 3, 2), (2, 3)]
"""Pixels, and latents of each level."""


def images(pixels: int, count: int = 6) -> Tensor:
    return 2 * normal(count, pixels, generator=torch.Generator().manual_seed(5))


def joint_precision(model: LinearHierarchy) -> tuple[Tensor, Tensor]:
    """Return mean and precision of (z_1, ..., z_L, x) from the quadratic forms of its factors: no composition."""
    parts = (*model.levels, model.likelihood)
    total = sum(part.size for part in parts)
    precision, linear, start = torch.zeros(total, total).double(), torch.zeros(total).double(), 0
    for part in parts:
        residual = torch.zeros(part.size, total).double()
        residual[:, :start], residual[:, start : start + part.size] = -part.matrix, torch.eye(part.size).double()
        weight = residual.T @ torch.linalg.inv(part.covariance)
        precision += weight @ residual
        linear += weight @ part.offset
        start += part.size
    return torch.linalg.solve(precision, linear), precision


@pytest.mark.parametrize("sizes", SIZES)
def test_likelihood_and_posterior_are_those_of_the_joint_gaussian(sizes: tuple[int, ...]) -> None:
    model, x = linear_hierarchy(*sizes), images(sizes[0])
    mean, precision = joint_precision(model)
    latents = len(mean) - sizes[0]
    covariance = torch.linalg.inv(precision)
    marginal = MultivariateNormal(mean[latents:], covariance[latents:, latents:])
    torch.testing.assert_close(model.log_prob(x), marginal.log_prob(x))
    posterior = model.posterior.joint
    torch.testing.assert_close(posterior.covariance, torch.linalg.inv(precision[:latents, :latents]))
    shift = torch.linalg.solve(precision[:latents, :latents], precision[:latents, latents:] @ (x - mean[latents:]).T).T
    torch.testing.assert_close(posterior.mean(x), mean[:latents] - shift)
    zs = list(normal(len(x), latents, generator=torch.Generator().manual_seed(6)).split(list(sizes[1:]), dim=1))
    expected = MultivariateNormal(mean, precision_matrix=precision).log_prob(torch.cat([*zs, x], dim=1))
    torch.testing.assert_close(model.log_joint(x, zs), expected)
    torch.testing.assert_close(model.log_joint(x, zs) - model.posterior.log_prob(zs, x), model.log_prob(x))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_elbo_falls_short_by_the_kl_from_the_posterior(sizes: tuple[int, ...]) -> None:
    """log p(x) - ELBO = KL(q(z|x) || p(z|x)), by torch's KL of joint Gaussians; 0 for the exact posterior."""
    model, q, x = linear_hierarchy(*sizes), linear_posterior(*sizes), images(sizes[0])
    exact = model.posterior.joint
    gap = kl_divergence(
        MultivariateNormal(q.joint.mean(x), q.joint.covariance), MultivariateNormal(exact.mean(x), exact.covariance)
    )
    torch.testing.assert_close(model.log_prob(x) - model.terms(x, q).elbo, gap)
    torch.testing.assert_close(model.terms(x, model.posterior).elbo, model.log_prob(x))


def test_the_terms_are_means_over_samples() -> None:
    """The KL of each level and the reconstruction, within five standard errors of 200,000 samples of q."""
    sizes = (3, 1, 2, 2)
    model, q, x = linear_hierarchy(*sizes), linear_posterior(*sizes), images(3, count=3)
    terms = model.terms(x, q)
    many = x.expand(200_000, 3, 3)
    zs = q.sample(many, torch.Generator().manual_seed(7))

    def check(samples: Tensor, exact: Tensor) -> None:
        error = samples.std(0) / math.sqrt(len(samples))
        assert bool(((samples.mean(0) - exact).abs() < 5 * error).all()) and bool((error < 0.05 * exact.abs()).all())

    for index, (p_level, q_level) in enumerate(zip(model.levels, q.levels, strict=True)):
        above = torch.cat([many[..., :0], *zs[:index]], dim=-1)
        log_q = q_level.log_prob(zs[index], torch.cat([many, above], dim=-1))
        check(log_q - p_level.log_prob(zs[index], above), terms.kl[:, index])
    check(-model.likelihood.log_prob(many, torch.cat(zs, dim=-1)), terms.reconstruction)
    torch.testing.assert_close(terms.loss([1, 1, 1]), -terms.elbo)
    torch.testing.assert_close(
        terms.loss([0.5, 0, 3]), terms.reconstruction + terms.kl @ torch.tensor([0.5, 0, 3]).double()
    )


def test_samples_of_the_model_have_its_marginal() -> None:
    model = linear_hierarchy(2, 1, 2)
    x, zs = model.sample(400_000, torch.Generator().manual_seed(8))
    torch.testing.assert_close(x.T.cov() / model.marginal.covariance, torch.ones(2, 2).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cat(zs, 1).T.cov(), model.prior.covariance, atol=0.05, rtol=0.02)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_best_q_with_all_betas_one_is_the_exact_posterior(sizes: tuple[int, ...]) -> None:
    """By completion of squares from the lowest level up, and by conditioning of the joint Gaussian."""
    model = linear_hierarchy(*sizes)
    for found, exact in zip(model.best_posterior().levels, model.posterior.levels, strict=True):
        for name in ("matrix", "offset", "covariance"):
            torch.testing.assert_close(getattr(found, name), getattr(exact, name))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_gap_of_mean_field_levels(sizes: tuple[int, ...]) -> None:
    model, x = linear_hierarchy(*sizes), images(sizes[0])
    best = model.best_posterior(diagonal=True)
    gap = model.log_prob(x) - model.terms(x, best).elbo
    torch.testing.assert_close(gap, model.mean_field_gap().expand(len(x)))
    assert model.mean_field_gap() > 0.01
    for level in best.levels:
        assert torch.equal(level.covariance, torch.diag(level.covariance.diagonal()))


@pytest.mark.parametrize("diagonal", [False, True])
def test_no_other_q_is_better_for_any_betas(diagonal: bool) -> None:
    """The gradient of the loss at the best q is 0, random steps away from it increase it, and descent ends there."""
    betas, generator = [0.4, 2.5], torch.Generator().manual_seed(9)
    model, x = linear_hierarchy(3, 2, 2), images(3, count=8)
    best = model.best_posterior(betas, diagonal=diagonal)
    smallest = model.terms(x, best).loss(betas).mean().item()
    start = [torch.cat([level.matrix, level.offset[:, None]], 1) for level in best.levels]
    start += [level.cholesky for level in best.levels]

    def loss(*values: Tensor) -> Tensor:
        levels = []
        for weights, root in zip(values[:2], values[2:], strict=True):
            factor = torch.diag(root.diagonal()) if diagonal else root.tril()
            levels.append(LinearGaussian(weights[:, :-1], weights[:, -1], factor @ factor.T))
        return model.terms(x, LinearPosterior(tuple(levels))).loss(betas).mean()

    variables = [value.clone().requires_grad_() for value in start]
    for gradient in torch.autograd.grad(loss(*variables), variables):
        assert gradient.abs().max() < 1e-10
    for size in (1e-3, 1e-1, 1):
        for _ in range(10):
            assert loss(*[value + size * normal(*value.shape, generator=generator) for value in start]) > smallest
    away = [value + 0.3 * normal(*value.shape, generator=generator) for value in start]
    assert minimize(loss, *away)[0] == pytest.approx(smallest, abs=1e-7)


def test_two_scalar_latents_by_quadrature() -> None:
    """Likelihood, KLs and reconstruction are integrals over a plane, here sums over a fine grid."""
    one = torch.ones(1, dtype=torch.float64)
    lower = independent(0.8 * one[:, None], 0.1 * one, 0.6 * one)
    likelihood = independent(torch.tensor([[0.3, 1.2]]).double(), -0.2 * one, 0.5 * one)
    model = LinearHierarchy((standard_normal(1), lower), likelihood)
    x, spacing = torch.tensor([[1.3]]).double(), 0.02
    axis = torch.arange(-8, 8, spacing, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    zs, many = [z[:, :1], z[:, 1:]], x.expand(len(z), 1)
    joint = model.log_joint(many, zs)
    assert model.log_prob(x).item() == pytest.approx((joint.exp().sum() * spacing**2).log().item(), abs=1e-12)
    q = LinearPosterior(
        (
            independent(0.5 * one[:, None], 0.2 * one, 0.7 * one),
            independent(torch.tensor([[0.6, 0.3]]).double(), -0.1 * one, 0.4 * one),
        )
    )
    weights = q.log_prob(zs, many).exp() * spacing**2
    terms = model.terms(x, q)
    top = q.levels[0].log_prob(z[:, :1], many) - model.levels[0].log_prob(z[:, :1], z[:, :0])
    below = q.levels[1].log_prob(z[:, 1:], torch.cat([many, z[:, :1]], 1)) - lower.log_prob(z[:, 1:], z[:, :1])
    assert terms.kl[0].tolist() == pytest.approx([(weights * top).sum().item(), (weights * below).sum().item()])
    assert terms.reconstruction.item() == pytest.approx(-(weights * likelihood.log_prob(many, z)).sum().item())


def test_a_posterior_from_the_bottom_up_is_the_same_distribution() -> None:
    generator, x = torch.Generator().manual_seed(10), images(3)
    upwards = [conditional(2, 3, generator), conditional(1, 5, generator), conditional(2, 6, generator)]
    z3, z2, z1 = normal(6, 5, generator=generator).split([2, 1, 2], dim=1)
    product = (
        upwards[0].log_prob(z3, x)
        + upwards[1].log_prob(z2, torch.cat([x, z3], 1))
        + upwards[2].log_prob(z1, torch.cat([x, z3, z2], 1))
    )
    torch.testing.assert_close(LinearPosterior.from_bottom_up(upwards).log_prob([z1, z2, z3], x), product)


def test_betas_and_levels_that_do_not_fit_are_refused() -> None:
    model = linear_hierarchy(3, 2, 2)
    for betas in ([1.0], [1.0, 0.0]):
        with pytest.raises(ConfigError, match="must be 2 numbers above 0"):
            model.best_posterior(betas)
    with pytest.raises(ConfigError, match="top level"):
        LinearHierarchy(model.levels[1:], model.likelihood)
    with pytest.raises(ConfigError, match="must have 2 columns"):
        LinearHierarchy(model.levels[:1], model.likelihood)
