"""Likelihoods of models with several levels of latents, against exact ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nelbo.evaluation import AIS, NLL, Gaps, importance
from nelbo.evaluation.annealing import adapt_step_sizes, anneal, lower_bound, sigmoid_schedule, simulate, upper_bound
from nelbo.evaluation.hmc import evaluator, latents, prior_positions, split
from nelbo.evaluation.measure import NotApplicable
from nelbo.evaluation.refinement import fit
from nelbo.models import Model
from nelbo.theory.hierarchy import LinearPosterior
from tests.helpers.gaussian_levels import LinearLevels, ScalarLevels
from tests.helpers.subjects import make_subject

MAPS = ((2, 1, 1), (2,), (1, 1, 2))
MODELS: dict[str, Callable[[], LinearLevels | ScalarLevels]] = {
    "linear": lambda: LinearLevels([(2,), (3,)]).widened(),
    "linear maps": lambda: LinearLevels(MAPS, seed=1).widened(),
    "nonlinear": lambda: ScalarLevels((1, 2, 2)),
}
"""Models whose log p(x) is known: two and three linear Gaussian levels, and two scalar levels with binary pixels."""


def made(name: str) -> tuple[LinearLevels | ScalarLevels, Tensor]:
    """Return a model, in eval mode, and a sample of its images, (40, C, H, W)."""
    model = MODELS[name]().eval().requires_grad_(False)
    return model, model.generate(40).sample()


def truth(model: LinearLevels | ScalarLevels, x: Tensor) -> Tensor:
    """Return log p(x) in nats, (B,)."""
    return model.log_evidence(x) if isinstance(model, ScalarLevels) else model.exact().log_prob(x.flatten(1))


def standard_error(values: Tensor) -> float:
    return (values.std() / math.sqrt(values.numel())).item()


@pytest.mark.parametrize("name", MODELS)
def test_importance_weights_average_to_the_likelihood(name: str) -> None:
    """The mean of estimate / p(x) is 1, and the mean of the bounds is below log p(x) and rises with the samples."""
    model, x = made(name)
    result, exact = importance(model, x.repeat(25, 1, 1, 1), 100, counts=[1, 10]), truth(model, x).repeat(25)
    ratio = (result.log_likelihood - exact).exp()
    assert abs(ratio.mean() - 1) < 3 * standard_error(ratio) and standard_error(ratio) < 0.03
    bounds = [result.curve[count] - exact for count in (1, 10, 100)]
    assert all(bound.mean() < 3 * standard_error(bound) for bound in bounds)
    assert bounds[0].mean() < bounds[1].mean() < bounds[2].mean()


def test_the_measure_nll_of_two_levels() -> None:
    model, x = made("linear")
    values = NLL(num_samples=2000, limit=None, log_weights=False)(make_subject(model, x)).values
    assert isinstance(values["nll"], float) and isinstance(values["nll_sampling_se"], float)
    assert abs(values["nll"] + truth(model, x).mean()) < 3 * values["nll_sampling_se"] < 0.02


@pytest.mark.parametrize("name", MODELS)
def test_positions_have_the_density_of_the_top_level_and_of_the_noise_below(name: str) -> None:
    """p(x, positions) differs from p(x, z) by the scales of p(z|above), which the change of variables multiplies by."""
    model, x = made(name)
    positions = prior_positions(model, 5, len(x)).requires_grad_()
    state = evaluator(model, x)(positions)
    zs = latents(model, positions)
    log_scales = torch.zeros(5, len(x)).double()
    for level in range(1, len(zs)):
        scale = model.prior(level, model.joined(zs[:level]))[1]
        log_scales = log_scales + scale.log().expand(*log_scales.shape, -1).sum(-1)
    joint = model.log_joint(x, zs) + log_scales
    torch.testing.assert_close(state.log_density(1.0), joint)
    (gradient,) = torch.autograd.grad(joint.sum(), positions)
    torch.testing.assert_close(state.gradient(1.0), gradient)
    top, noise = split(model, positions)
    assert top.shape[2:] == model.events[0] and noise.shape == (5, len(x), model.noise_size)


@pytest.mark.parametrize("name", MODELS)
def test_prior_positions_are_samples_of_the_prior(name: str) -> None:
    """The first two moments of every level are those of `Model.sample`, within 5 standard errors of both."""
    model, _ = made(name)
    count = 20_000
    drawn = model.joined(latents(model, prior_positions(model, count)))
    sampled = model.joined(model.sample(count))
    for power in (1, 2):
        first, second = drawn**power, sampled**power
        errors = ((first.var(dim=0) + second.var(dim=0)) / count).sqrt()
        assert ((first.mean(dim=0) - second.mean(dim=0)).abs() < 5 * errors).all()


def annealed(model: Model, x: Tensor, exact: Tensor | None = None) -> Tensor:
    """Return log w of 8 chains, (8, B), with 50 temperatures and 5 leapfrog steps."""
    betas = sigmoid_schedule(50)
    steps = adapt_step_sizes(model, x, betas, num_chains=4, num_leapfrog_steps=5)
    return anneal(model, x, betas, steps, num_chains=8, num_leapfrog_steps=5, exact=exact).log_weights


@pytest.mark.parametrize("name", MODELS)
def test_annealed_weights_average_to_the_likelihood_and_bound_it_from_both_sides(name: str) -> None:
    """On images that the model generates, for which positions are exact samples of the posterior."""
    model, _ = made(name)
    positions, x = simulate(model, 300)
    exact = truth(model, x)
    forward, backward = annealed(model, x), annealed(model, x, positions)
    ratios = ((forward - exact).exp().mean(dim=0), (exact - backward).exp().mean(dim=0))
    assert all(abs(ratio.mean() - 1) < 3 * standard_error(ratio) and standard_error(ratio) < 0.08 for ratio in ratios)
    below, above = lower_bound(forward) - exact, upper_bound(backward) - exact
    assert -0.3 < below.mean() < 3 * standard_error(below)
    assert 0.3 > above.mean() > -3 * standard_error(above)


def test_the_measure_ais_of_two_levels() -> None:
    model, x = made("nonlinear")
    ais = AIS(num_chains=8, num_temperatures=30, num_leapfrog_steps=5, limit=None, num_simulated=30)
    findings = ais(make_subject(model, x))
    difference = findings.per_image["ais_nll"] + truth(model, x)
    assert -3 * standard_error(difference) < difference.mean() < 0.2 and not findings.warnings


def shifted(model: LinearLevels, amount: float) -> LinearLevels:
    """Add a constant to the means of q at all levels, and return the model."""
    with torch.no_grad():
        for offset in model.q_offset:
            offset += amount
    return model


def exact_elbo(model: LinearLevels, posterior: LinearPosterior, x: Tensor) -> Tensor:
    return model.exact().terms(x.flatten(1), posterior).elbo


@pytest.mark.parametrize("events", [[(2,), (3,)], MAPS])
def test_the_gaps_of_linear_levels(events: list[tuple[int, ...]]) -> None:
    """The encoder's means are off at all levels, and the refinement finds the best q with independent units again."""
    model = LinearLevels(events).widened(1.0).eval().requires_grad_(False)
    x = model.generate(20).sample()
    best = exact_elbo(model, model.exact_posterior(), x)
    off = exact_elbo(model, shifted(model, 0.4).exact_posterior(), x)
    assert (best - off).min() > 0.3
    settings = {"num_steps": 300, "lr": 0.1, "gradient_samples": 20, "num_samples": 2000, "limit": None}
    findings = Gaps(**settings)(make_subject(model, x))  # type: ignore[arg-type]
    likelihood = truth(model, x)
    for name, expected in {
        "approximation_gap": likelihood - best,
        "amortisation_gap": best - off,
        "inference_gap": likelihood - off,
        "gaps_nll": -likelihood,
    }.items():
        difference = findings.per_image[name] - expected
        # 0.03: error of the optimisation
        assert abs(difference.mean()) < 3 * standard_error(difference) + 0.03 and difference.abs().max() < 0.5, name
    assert not findings.warnings


def test_the_refinement_changes_all_levels_and_each_image_alone() -> None:
    model = shifted(LinearLevels(MAPS).widened(), 0.4).eval().requires_grad_(False)
    x = model.generate(3).sample()
    before = model.infer(x)
    _, after = fit(model, x, num_steps=30, lr=0.1, gradient_samples=5)
    assert len(after.below) == 2 and after.q.event_shape == (2, 1, 1)
    changes = [(new - old).abs() for new, old in zip(after.parameters(), before.parameters(), strict=True)]
    assert all(change.flatten(1).amax(1).min() > 0.05 for change in changes)


def test_levels_that_are_not_made_of_noise_cannot_be_annealed() -> None:
    class Other(LinearLevels):
        unfold = Model.unfold

    model = Other([(2,), (3,)]).eval()
    ais = AIS(num_chains=1, num_temperatures=2, num_leapfrog_steps=1, limit=None, num_simulated=0)
    with pytest.raises(NotApplicable, match="ais: the model does not make levels below the top of noise"):
        ais(make_subject(model, torch.zeros(1, *model.shape).double()))
