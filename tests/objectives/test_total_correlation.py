"""The terms of the KL against explicit sums and closed forms, and the bias and variance of their estimators."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from nelbo.distributions import DiagonalNormal, FullNormal, OneHots
from nelbo.errors import ConfigError
from nelbo.objectives import BetaTC, NegativeELBO
from nelbo.objectives.total_correlation import ESTIMATORS, aggregate
from nelbo.schedules import Linear
from nelbo.trace import Trace
from tests.helpers.factors import images, make_vae
from tests.helpers.traces import trace_of

PARTS = ("mutual_information", "total_correlation", "dimension_wise_kl")


def objective(estimator: str = "stratified", num_examples: int = 40, *, beta: float = 6.0, samples: int = 2) -> BetaTC:
    beta_tc = BetaTC(alpha=1.0, beta=beta, gamma=1.0, estimator=estimator, num_samples=samples)
    beta_tc.prepare(num_examples)
    return beta_tc


def random_trace(batch: int = 40, samples: int = 2) -> Trace:
    q = DiagonalNormal(torch.randn(batch, 3).double(), 0.3 + torch.rand(batch, 3).double())
    p = DiagonalNormal(torch.tensor([0.1, -0.2, 0.3]).double(), torch.tensor([1.0, 1.5, 0.7]).double())
    return trace_of(q, q.rsample((samples,)), p)


def brute_force(trace: Trace) -> dict[str, float]:
    """Return the terms with q(z) as the mixture over the batch, computed in loops."""
    (latent,) = trace.latents
    q, p, z = latent.q, latent.p, latent.z
    assert isinstance(q, DiagonalNormal) and isinstance(p, DiagonalNormal)
    samples, batch, units = z.shape
    sums = dict.fromkeys(PARTS, 0.0)
    for s, i in itertools.product(range(samples), range(batch)):
        densities = torch.tensor(
            [
                [math.exp(Normal(q.loc[n, j], q.scale[n, j]).log_prob(z[s, i, j])) for j in range(units)]
                for n in range(batch)
            ]
        ).double()
        log_q = densities[i].log().sum()
        log_joint, log_marginals = densities.prod(-1).mean().log(), densities.mean(0).log()
        log_prior = Normal(p.loc, p.scale).log_prob(z[s, i])
        sums["mutual_information"] += float(log_q - log_joint)
        sums["total_correlation"] += float(log_joint - log_marginals.sum())
        sums["dimension_wise_kl"] += float((log_marginals - log_prior).sum())
    return {name: value / (samples * batch) for name, value in sums.items()}


def test_with_the_whole_set_as_batch_the_terms_are_those_of_the_mixture() -> None:
    """Weighted sampling, whose weights sum to 1 / N, has a bias of log N per log-density (Chen et al. 2018, 3.1)."""
    trace = random_trace()
    exact, log_n = brute_force(trace), math.log(40)
    bias = {"mutual_information": log_n, "total_correlation": (3 - 1) * log_n, "dimension_wise_kl": -3 * log_n}
    for estimator, share in (("stratified", 0), ("weighted", 1)):
        terms = objective(estimator)(trace, 0).terms
        for name in PARTS:
            assert float(terms[name]) == pytest.approx(exact[name] + share * bias[name], abs=1e-5), (estimator, name)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_terms_sum_to_the_kl_of_the_same_samples(estimator: str) -> None:
    trace = random_trace(batch=7)
    terms = objective(estimator)(trace, 0).terms
    (latent,) = trace.latents
    monte_carlo = (latent.log_q - latent.log_p).mean()
    torch.testing.assert_close(sum((torch.as_tensor(terms[name]) for name in PARTS), torch.zeros(())), monte_carlo)


def test_the_terms_of_gaussians_match_their_closed_form() -> None:
    """Means from a correlated Gaussian plus isotropic noise: q(z) is Gaussian with the sum of both covariances."""
    noise, rho, size = 0.4, 0.8, 1000
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]]).double()
    means = FullNormal(torch.zeros(2).double(), torch.linalg.cholesky(covariance - noise**2 * torch.eye(2)))
    exact = {
        "mutual_information": 0.5 * math.log((1 - rho**2) / noise**4),
        "total_correlation": -0.5 * math.log(1 - rho**2),
        "dimension_wise_kl": 0.0,
    }
    estimates: dict[str, list[float]] = {name: [] for name in PARTS}
    for _ in range(10):
        q = DiagonalNormal(means.sample((size,)), torch.full((size, 2), noise).double())
        terms = objective(num_examples=size)(trace_of(q, q.rsample((1,))), 0).terms
        for name in PARTS:
            estimates[name].append(float(terms[name]))
    for name, values in estimates.items():
        error = torch.tensor(values).std() / math.sqrt(len(values))
        # A sample of N means differs from its Gaussian, which gives a bias of order 1 / N.
        assert abs(sum(values) / len(values) - exact[name]) < 4 * error + 5 / size, name
        assert error < 0.03, name


def test_stratified_densities_are_unbiased_and_weighted_ones_have_a_known_bias() -> None:
    """All batches of 3 of 6 images that contain the image of z; q(z) is the mean over the 6."""
    q = DiagonalNormal(torch.randn(6, 2).double(), 0.5 + torch.rand(6, 2).double())
    z = q.sample()
    density = q.log_prob(z[0]).exp()  # of the first image's code under each q(z|x)
    estimates: dict[str, list[Tensor]] = {name: [] for name in ESTIMATORS}
    for others in itertools.combinations(range(1, 6), 2):
        chosen = [0, *others]
        batch = DiagonalNormal(q.loc[chosen], q.scale[chosen])
        for name, weights in ESTIMATORS.items():
            log_joint, _ = aggregate(batch, z[chosen].unsqueeze(0), weights(3, torch.tensor(6.0).double()))
            estimates[name].append(log_joint[0, 0].exp())
    torch.testing.assert_close(torch.stack(estimates["stratified"]).mean(), density.mean())
    biased = (density[0] + 2 * density[1:].mean()) / (6 * 3)
    torch.testing.assert_close(torch.stack(estimates["weighted"]).mean(), biased)


def test_the_log_density_rises_to_its_value_as_batches_grow() -> None:
    """By Jensen's inequality the log of an unbiased density is too small, less so for larger batches."""
    size = 64
    q = DiagonalNormal(torch.randn(size, 2).double(), torch.full((size, 2), 0.3).double())
    number = torch.tensor(float(size)).double()
    biases = []
    for batch in (2, 8, 32, 64):
        errors = []
        for _ in range(150):
            chosen = torch.randperm(size)[:batch]
            part = DiagonalNormal(q.loc[chosen], q.scale[chosen])
            z = part.sample((1,))
            whole = q.log_prob(z.squeeze(0).unsqueeze(1)).logsumexp(dim=-1) - math.log(size)
            errors.append((aggregate(part, z, ESTIMATORS["stratified"](batch, number))[0] - whole).mean())
        biases.append(float(torch.stack(errors).mean()))
    assert biases[0] < biases[1] - 0.1 < biases[2] - 0.2 < -0.2
    assert abs(biases[3]) < 1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_weights_of_one_give_the_elbo_and_others_add_their_terms(estimator: str) -> None:
    model, x = make_vae(), images()
    trace = model.trace(x, 2)
    plain = NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total
    neutral = objective(estimator, beta=1.0)(trace, 0)
    torch.testing.assert_close(neutral.total, plain)
    torch.testing.assert_close(neutral.total.detach(), neutral.terms["nelbo"])
    for one, other in zip(
        torch.autograd.grad(plain, list(model.parameters()), retain_graph=True),
        torch.autograd.grad(neutral.total, list(model.parameters()), retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    weighted = BetaTC(alpha=3.0, beta=Linear(steps=10, start=0, end=4), gamma=0.5, estimator=estimator, num_samples=2)
    weighted.prepare(40)
    loss = weighted(trace, math.inf)
    information, correlation, marginals = (torch.as_tensor(loss.terms[name]) for name in PARTS)
    torch.testing.assert_close(loss.total, plain + 2 * information + 3 * correlation - 0.5 * marginals)
    assert weighted(trace, 5).terms["beta"] == 2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_loss_of_one_image_is_finite_and_is_nan_without_the_number_of_images(estimator: str) -> None:
    prepared = objective(estimator)
    model = make_vae()
    total = prepared(model.trace(images(count=1), 2), 0).total
    total.backward()
    assert total.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    fresh = BetaTC(alpha=1.0, beta=6.0, gamma=1.0, estimator=estimator, num_samples=2)
    assert fresh(model.trace(images(), 2), 0).total.isnan()
    fresh.load_state_dict(prepared.state_dict())  # as a crash bundle and a resumed run do
    assert fresh(model.trace(images(), 2), 0).total.isfinite()


def test_unsupported_models_and_options_are_rejected() -> None:
    codes = OneHots(torch.zeros(2, 4, 5))
    with pytest.raises(ConfigError, match="^objective=beta_tc: needs continuous latents with independent units in q"):
        objective().check(trace_of(codes, codes.sample((1,)), OneHots(torch.zeros(4, 5))))
    q = DiagonalNormal(torch.zeros(2, 3), torch.ones(2, 3))
    objective().check(trace_of(q, q.sample((1,))))
    with pytest.raises(ConfigError, match="^estimator=exact: must be one of weighted, stratified"):
        objective("exact")
    with pytest.raises(ConfigError, match="^beta=-1: must be a finite number of at least 0"):
        objective(beta=-1)
