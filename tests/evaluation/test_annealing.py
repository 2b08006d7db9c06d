"""Annealed importance sampling against the closed form of linear models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError
from nelbo.evaluation import AIS, annealing
from nelbo.evaluation.annealing import (
    adapt_step_sizes,
    anneal,
    lower_bound,
    sigmoid_schedule,
    simulate,
    upper_bound,
)
from nelbo.evaluation.measure import Findings, NotApplicable
from nelbo.evaluation.processes import Processes
from nelbo.models import VAE
from nelbo.priors import StandardNormal
from tests.helpers.exact import exact
from tests.helpers.factors import LIKELIHOODS, PRIORS, images, make_vae
from tests.helpers.subjects import make_subject


@torch.no_grad()
def linear(prior: str = "standard_normal", sigma: float = 1.0) -> VAE:
    """A linear decoder with an informative likelihood, in float64."""
    model = make_vae("linear", prior=prior, likelihood="gaussian_fixed").double().eval()
    model.likelihood.sigma.fill_(sigma)
    for parameter in model.prior.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return model.requires_grad_(False)


def weights(model: VAE, x: Tensor, num_temperatures: int, z: Tensor | None = None, chains: int = 16) -> Tensor:
    """Return log w, (S, B), with 5 leapfrog steps."""
    betas = sigmoid_schedule(num_temperatures)
    steps = adapt_step_sizes(model, x, betas, num_chains=4, num_leapfrog_steps=5)
    return anneal(model, x, betas, steps, num_chains=chains, num_leapfrog_steps=5, exact=z).log_weights


def standard_error(values: Tensor) -> float:
    return (values.std() / math.sqrt(values.numel())).item()


def test_the_schedule_is_a_sigmoid_from_0_to_1() -> None:
    betas = sigmoid_schedule(4)
    assert betas[0] == 0 and betas[-1] == 1 and betas[2] == pytest.approx(0.5)
    low, high = 1 / (1 + math.exp(4)), 1 / (1 + math.exp(-4))
    assert betas[1] == pytest.approx((1 / (1 + math.exp(2)) - low) / (high - low))


def test_chains_that_accept_nothing_still_have_unbiased_weights() -> None:
    """Huge steps leave the support of every density, so what remains is importance sampling from the prior."""
    model, x = linear(), images(count=1).double().expand(50, -1, -1, -1)
    betas = sigmoid_schedule(10)
    chains = anneal(
        model, x, betas, torch.full((9, 50), 1e200, dtype=torch.float64), num_chains=200, num_leapfrog_steps=2
    )
    assert chains.acceptance.eq(0).all()
    ratio = (chains.log_weights - exact(model, x)).exp()
    assert abs(ratio.mean() - 1) < 3 * standard_error(ratio)


def test_tiny_steps_are_all_accepted() -> None:
    """The acceptance is averaged over the 9 transitions between 10 temperatures, not over the 10 weights."""
    steps = torch.full((9, 3), 1e-9, dtype=torch.float64)
    betas = sigmoid_schedule(10)
    chains = anneal(linear(), images(count=3).double(), betas, steps, num_chains=2, num_leapfrog_steps=1)
    torch.testing.assert_close(chains.acceptance, torch.ones_like(chains.acceptance))


def test_one_temperature_is_importance_sampling_from_the_prior() -> None:
    model, x = linear(), images(count=6).double()
    torch.manual_seed(1)
    log_weights = weights(model, x, 1)
    torch.manual_seed(1)
    model.prior(model.encode).sample(torch.Size((4, 6)))  # the pilot chains
    z = model.prior(model.encode).sample(torch.Size((16, 6)))
    torch.testing.assert_close(log_weights, model.decode(z).log_prob(x))


@pytest.mark.parametrize("prior", ["standard_normal", "diagonal_normal"])
def test_weights_average_to_the_likelihood(prior: str) -> None:
    """The mean of w / p(x) is 1 within its standard error, for 6 models; the bound is below log p(x) and close."""
    scores = []
    for seed in range(6):
        torch.manual_seed(seed)
        model = linear(prior)
        _, x = simulate(model, 1)
        x = x.expand(200, -1, -1, -1)
        log_ratio = weights(model, x, 15) - exact(model, x)
        ratio = log_ratio.exp().mean(dim=0)
        scores.append((ratio.mean() - 1) / standard_error(ratio))
        bound = lower_bound(log_ratio)
        assert standard_error(ratio) < 0.05
        assert bound.mean() < 3 * standard_error(bound) and bound.mean() > -0.2
    assert max(map(abs, scores)) < 3 and abs(sum(scores)) / math.sqrt(len(scores)) < 3


def test_both_bounds_enclose_the_likelihood_of_simulated_images() -> None:
    """For 6 models; and the bounds get closer with more temperatures."""
    gaps: dict[int, list[float]] = {2: [], 20: []}
    for seed in range(6):
        for count in gaps:
            torch.manual_seed(seed)
            model = linear("diagonal_normal")
            z, x = simulate(model, 100)
            truth = exact(model, x)
            below = lower_bound(weights(model, x, count)) - truth
            above = upper_bound(weights(model, x, count, z)) - truth
            assert below.mean() < 3 * standard_error(below) and above.mean() > -3 * standard_error(above)
            gaps[count].append((above - below).mean().item())
    assert all(many < few / 4 for few, many in zip(gaps[2], gaps[20], strict=True)) and max(gaps[20]) < 1


def test_reciprocal_weights_of_backward_chains_average_to_the_reciprocal_likelihood() -> None:
    model = linear()
    z, x = simulate(model, 400)
    ratio = (exact(model, x) - weights(model, x, 20, z)).exp().mean(dim=0)
    assert abs(ratio.mean() - 1) < 3 * standard_error(ratio) and standard_error(ratio) < 0.03


@pytest.mark.parametrize("prior", PRIORS)
def test_with_every_prior_it_agrees_with_many_samples_of_the_prior(prior: str) -> None:
    """With a weak likelihood, for which 50,000 samples of the prior are enough."""
    model = make_vae("mlp", prior=prior, likelihood="gaussian_fixed").double().eval()
    with torch.no_grad():
        model.likelihood.sigma.fill_(1.0)
        x = images(count=1).double()
        z = model.prior(model.encode).sample(torch.Size((50_000, 1)))
        truth = lower_bound(model.decode(z).log_prob(x))
    ratio = weights(model, x.expand(60, -1, -1, -1), 20).exp() / truth.exp()
    assert abs(ratio.mean() - 1) < 3 * standard_error(ratio) + 0.002 and standard_error(ratio) < 0.02


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_simulated_images_are_in_the_support_of_every_likelihood(likelihood: str) -> None:
    model = make_vae(likelihood=likelihood).eval()
    z, x = simulate(model, 20)
    px = model.decode(z)
    assert len(x) and px.support.check(x).all() and px.log_prob(x).isfinite().all()
    assert x.flatten(1).std(dim=1).min() > 0.01  # samples, not means
    assert lower_bound(weights(model, x, 5)).isfinite().all()


def measure(model: VAE, x: Tensor, **changes: int | None) -> Findings:
    settings: dict[str, int | None] = dict(
        num_chains=8, num_temperatures=40, num_leapfrog_steps=5, limit=None, num_simulated=30
    )
    return AIS(**(settings | changes))(make_subject(model, x))  # type: ignore[arg-type]


def test_the_measure_of_a_linear_model() -> None:
    model = linear()
    _, x = simulate(model, 40)
    findings = measure(model, x)
    values, truth = findings.values, exact(model, x)
    assert findings.per_image["ais_nll"].shape == (40,) and not findings.warnings
    difference = findings.per_image["ais_nll"] + truth
    assert -3 * standard_error(difference) < difference.mean() < 0.3
    assert values["ais_nll"] == pytest.approx(findings.per_image["ais_nll"].mean().item())
    assert values["ais_gap"] == pytest.approx(values["ais_upper"] - values["ais_lower"])  # type: ignore[operator]
    assert abs(values["ais_gap"]) < 0.5 and 0.5 < values["ais_acceptance"] < 0.95  # type: ignore[operator, arg-type]
    counts = {"chains": 8, "temperatures": 40, "leapfrog_steps": 5, "images": 40, "simulated_images": 30}
    assert {key: values[f"ais_{key}"] for key in counts} == counts
    assert measure(model, x).values == values  # the same noise


def test_too_few_temperatures_give_a_warning() -> None:
    model = linear(sigma=0.1)
    _, x = simulate(model, 10)
    findings = measure(model, x, num_temperatures=5)
    assert findings.values["ais_gap"] > 1  # type: ignore[operator]
    assert any("metrics.ais.num_temperatures=20" in warning for warning in findings.warnings)
    assert "ais_gap" not in measure(model, x, num_simulated=0).values


def test_processes_share_the_simulated_images() -> None:
    """Each of two processes has every other chunk, and the bounds do not depend on the number of processes."""

    class Alone(Processes):
        def join(self, mine: list[Tensor], total: int) -> list[Tensor]:
            assert total == 3
            return mine

    model = linear()
    ais = AIS(num_chains=2, num_temperatures=3, num_leapfrog_steps=2, limit=None, num_simulated=10)
    _, x = simulate(model, 5)
    everything = ais.bracket(make_subject(model, x), 4)
    assert everything.shape == (10, 2)
    first, second = (ais.bracket(make_subject(model, x, processes=Alone(rank, 2)), 4) for rank in (0, 1))
    torch.testing.assert_close(torch.cat([first[:4], second, first[4:]]), everything)


def test_simulated_pixels_without_a_density_are_dropped_with_a_warning() -> None:
    """A density that diverges at 0 and 1 has samples that are exactly 0 or 1 in floating point."""
    model = make_vae(likelihood="beta").eval()
    with torch.no_grad():
        model.likelihood.raw_concentration.fill_(-100.0)
    findings = measure(model, images(), num_simulated=20)
    assert findings.values["ais_simulated_images"] < 20  # type: ignore[operator]
    assert any("are not part of ais_gap" in warning for warning in findings.warnings)


def test_few_accepted_proposals_give_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step sizes start far too large, and there are too few temperatures to adapt them."""
    monkeypatch.setattr(annealing, "STARTING_STEP", 50.0)
    findings = measure(linear(), simulate(linear(), 5)[1], num_temperatures=3)
    assert findings.values["ais_acceptance"] < 0.1  # type: ignore[operator]
    assert any("proposals were accepted" in warning for warning in findings.warnings)


def test_models_for_which_ais_is_not_defined() -> None:
    class Constant(torch.nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.zeros(*z.shape[:-1], 8)

    class NoDensity(StandardNormal):
        def forward(self, encode: object) -> DiagonalNormal:
            class Sampler(DiagonalNormal):
                def log_prob(self, value: Tensor) -> Tensor:
                    raise NotImplementedError

            return Sampler(self.zeros, self.zeros + 1)

    model = make_vae()
    model.prior = NoDensity((3,), model.shape)
    with pytest.raises(NotApplicable, match="p.z. has no density"):
        measure(model, images())
    model = make_vae()
    model.decoder, model.likelihood = Constant(), model.likelihood.requires_grad_(False)  # type: ignore[assignment]
    with pytest.raises(NotApplicable, match="no gradient"):
        measure(model, images())
    for key in ("num_chains", "num_temperatures", "num_leapfrog_steps", "limit"):
        with pytest.raises(ConfigError, match=f"{key}=0"):
            measure(make_vae(), images(), **{key: 0})
