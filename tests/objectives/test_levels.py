"""Objectives on several levels of latents: bounds against exact likelihoods, gradients against those they stand for."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from nelbo.config.build import build
from nelbo.errors import ConfigError
from nelbo.models import Model
from nelbo.objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, NegativeELBO, Objective
from nelbo.objectives.paths import partial_gradients
from nelbo.trace import Trace
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.forks import ROOT
from tests.helpers.two_levels import SHAPE, VECTOR, LinearLevels, SplitLevels, gradient, make_two_levels

OBJECTIVES = ROOT / "conf" / "objective"
SHIPPED = sorted(file.stem for file in OBJECTIVES.glob("*.yaml"))
REFUSED = {
    "semi_supervised": "objective=semi_supervised: is for a model that infers a label",
    "reconstruction": "objective=reconstruction: has no KL, so nothing would train the priors of the lower levels; use "
    "objective=elbo",
    "vq_vae": "objective=vq_vae: needs latents quantised to a codebook, and this posterior has none; use "
    "objective=elbo",
}
"""How the message begins with which a shipped objective refuses normal latents of two levels; others take them."""


def shipped(name: str, **changes: object) -> Objective:
    """Return a shipped objective, with other weights if any are given."""
    options: Any = OmegaConf.to_container(OmegaConf.load(OBJECTIVES / f"{name}.yaml"), resolve=False)
    if "latent_dim" in options:
        options["latent_dim"] = VECTOR
    objective: Objective = build({**options, **changes}, "objective")
    objective.prepare(100)
    return objective.double()


def images(count: int = 5) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, *SHAPE).double()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_objective_takes_two_levels_or_refuses_them_in_one_line(name: str) -> None:
    objective, model, x = shipped(name), make_two_levels(), images()
    example = model.trace(x[:2], 1)
    if name in REFUSED:
        with pytest.raises(ConfigError, match="^" + re.escape(REFUSED[name])) as caught:
            objective.check(example)
        assert "\n" not in str(caught.value)
        return
    objective.check(example)
    loss = objective(model.trace(x, objective.num_samples), 10)
    loss.total.backward()
    for key, parameter in [*model.named_parameters(), *objective.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key
    assert {"nelbo", "kl", "kl_level_1", "kl_level_2"} <= loss.terms.keys()
    levels = float(loss.terms["kl_level_1"]) + float(loss.terms["kl_level_2"])
    assert float(loss.terms["kl"]) == pytest.approx(levels)


@pytest.mark.parametrize(
    ("name", "weights", "term"),
    [
        ("beta_tc", {"alpha": 1, "beta": 1, "gamma": 1}, "top_level_total_correlation"),
        ("factor", {"gamma": 0}, "top_level_total_correlation"),
        ("dip", {"lambda_off_diagonal": 0, "lambda_diagonal": 0}, "top_level_off_diagonal"),
        ("info", {"alpha": 0, "mmd_weight": 0}, "top_level_mmd"),
        ("capacity", {"gamma": 1, "capacity": 0}, "capacity"),
    ],
)
def test_penalties_of_the_top_level_say_so_and_without_them_the_loss_is_the_negative_elbo(
    name: str, weights: dict[str, object], term: str
) -> None:
    trace = make_two_levels().trace(images(), 2)
    loss = shipped(name, **weights)(trace, 0)
    assert term in loss.terms
    torch.testing.assert_close(loss.total, NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total)


def test_levels_below_the_top_count_as_part_of_the_likelihood_of_an_mmd() -> None:
    trace = make_two_levels().trace(images(), 2)
    top, below = (latent.kl.mean() for latent in trace.latents)
    reconstruction = -trace.log_px.mean()
    torch.manual_seed(0)
    loss = shipped("info", alpha=0.75)(trace, 0)
    mmd = 10 * float(loss.terms["top_level_mmd"])
    torch.testing.assert_close(loss.total, reconstruction + below + 0.25 * top + mmd)
    torch.manual_seed(0)
    loss = shipped("wae")(trace, 0)
    torch.testing.assert_close(loss.total, reconstruction + below + 10 * float(loss.terms["top_level_mmd"]))


@torch.no_grad()
def test_bounds_of_two_levels_rise_to_the_exact_log_likelihood() -> None:
    linear = LinearLevels(3)
    gain, offset, factor, gain_2, offset_2, factor_2 = linear.posterior()
    q = [gain, offset + 0.2, 1.3 * factor, gain_2, offset_2 - 0.2, 1.3 * factor_2]
    exact, repeats = linear.log_p(), 1000
    linear.x = linear.x.repeat(repeats, 1)
    means = {}
    for objective in (
        IWAE(num_samples=1),
        MIWAE(num_samples=20, groups=4),
        CIWAE(num_samples=20, elbo_share=0.5),
        IWAE(num_samples=20),
        IWAE(num_samples=400),
    ):
        gap = objective.bound(linear.trace(q, objective.num_samples)).unflatten(0, (repeats, -1)) - exact
        error = gap.std(dim=0) / math.sqrt(repeats)
        means[f"{objective.name}_{objective.num_samples}"] = gap.mean().item()
        if objective.name == "iwae":  # the bound is the log of an unbiased estimate
            assert ((gap.exp().mean(0) - 1).abs() < 4 * gap.exp().std(0) / math.sqrt(repeats)).all()
    assert means["iwae_1"] < means["ciwae_20"] < means["iwae_20"] < means["iwae_400"]
    assert means["iwae_1"] < means["miwae_20"] < means["iwae_20"] < -0.05
    assert abs(means["iwae_400"]) < 4 * error.mean() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 4])
def test_every_bound_equals_log_p_at_the_exact_posterior_of_two_levels(samples: int) -> None:
    linear = LinearLevels(3)
    trace = linear.trace(linear.posterior(), samples)
    for objective in (
        IWAE(num_samples=samples),
        MIWAE(num_samples=samples, groups=samples),
        DReG(num_samples=samples),
        PIWAE(num_samples=samples, groups=samples),
    ):
        torch.testing.assert_close(objective.bound(trace), linear.log_p(), rtol=0, atol=1e-9)
    torch.testing.assert_close(STL(beta=1.0, num_samples=samples)(trace, 0).total, -linear.log_p().mean())


def test_at_the_exact_posterior_of_two_levels_stl_and_dreg_have_no_noise() -> None:
    """The gradients with respect to gain, offset and factor of both levels; q of the lower level depends on z_1."""
    linear = LinearLevels(4)
    posterior = linear.posterior()

    def size(objective: Objective) -> float:
        total = objective(linear.trace(posterior, objective.num_samples), 0).total
        return max(each.abs().max().item() for each in torch.autograd.grad(total, posterior))

    for objective in (STL(beta=1.0, num_samples=1), DReG(num_samples=5)):
        assert size(objective) < 1e-10, objective.name
    for objective in (NegativeELBO(beta=1.0, num_samples=1), IWAE(num_samples=5)):
        assert size(objective) > 0.01, objective.name


def assert_equal_in_expectation(draws: Tensor, expected: Tensor) -> None:
    """Assert for draws in rows that the means differ by less than 5 standard errors, which are small."""
    difference = draws - expected
    error = difference.std(dim=0) / len(difference) ** 0.5
    size = expected.mean(dim=0).norm()
    assert (difference.mean(dim=0).abs() <= 5 * error + 1e-9 * size).all()
    assert 0 < error.norm() < 0.04 * size


@pytest.mark.parametrize("relative", [False, True])
def test_gradients_of_dreg_and_stl_have_the_mean_of_iwae_and_the_elbo(relative: bool) -> None:
    split, x = SplitLevels(make_two_levels(relative=relative)), images(3).repeat(100, 1, 1, 1)
    pairs = ((DReG(num_samples=4), IWAE(num_samples=4)), (STL(beta=0.7, num_samples=1), monte_carlo_elbo(0.7)))
    for objective, same in pairs:
        phi, theta = split.draws(objective, x, 30)
        expected_phi, expected_theta = split.draws(same, x, 30)
        assert_equal_in_expectation(phi, expected_phi)
        torch.testing.assert_close(theta, expected_theta)  # sample by sample


def monte_carlo_elbo(beta: float) -> NegativeELBO:
    """Return the negative ELBO with log q(z|x) - log p(z) in place of the closed-form KL, as `STL` has it."""

    class MonteCarlo(NegativeELBO):
        def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
            return trace.log_q - trace.log_p

    return MonteCarlo(beta=beta, num_samples=1)


@pytest.mark.parametrize("relative", [False, True])
def test_piwae_of_two_levels_is_miwae_for_phi_and_iwae_for_theta_sample_by_sample(relative: bool) -> None:
    split, x = SplitLevels(make_two_levels(relative=relative)), images()
    phi, theta = split.gradients(PIWAE(num_samples=6, groups=3), x, 0)
    miwae_phi, miwae_theta = split.gradients(MIWAE(num_samples=6, groups=3), x, 0)
    iwae_phi, iwae_theta = split.gradients(IWAE(num_samples=6), x, 0)
    torch.testing.assert_close(phi, miwae_phi)
    torch.testing.assert_close(theta, iwae_theta)
    assert (phi - iwae_phi).norm() > 0.05 * phi.norm() and (theta - miwae_theta).norm() > 0.05 * theta.norm()


def test_parameters_that_p_and_q_share_get_the_sum_of_both_gradients() -> None:
    model, x = make_two_levels(relative=True), images()
    for objective in (DReG(num_samples=4), PIWAE(num_samples=4, groups=2), STL(beta=1.0, num_samples=4)):
        parts = SplitLevels(model).gradients(objective, x, 0)
        torch.manual_seed(0)
        torch.testing.assert_close(gradient(objective(model.trace(x, 4), 0).total, model), sum(parts))


@pytest.mark.parametrize(("kind", "posterior"), [("ladder", "diagonal_normal"), ("top_down", "residual_normal")])
def test_path_gradients_of_hierarchies_have_the_mean_of_those_they_stand_for(kind: str, posterior: str) -> None:
    """All parameters, most of which p and q share; with activations stored, and computed again in a backward pass."""
    torch.manual_seed(5)
    options: dict[str, Any] = {"shape": SHAPE, "likelihood": "gaussian_fixed", "width": 4, "center": False}
    options |= {"layout": ["1x1", "2x1"]} if kind == "top_down" else {"levels": [2, 3]}
    model = make_hierarchy(kind, posterior, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    again = make_hierarchy(kind, posterior, **options, checkpoint_activations=True).double()
    again.load_state_dict(model.state_dict())
    x = images(3).repeat(50, 1, 1, 1)

    def draws(objective: Objective, model: Model = model, count: int = 25) -> Tensor:
        rows = []
        for seed in range(count):
            torch.manual_seed(seed)
            rows.append(gradient(objective(model.trace(x, objective.num_samples), 0).total, model))
        return torch.stack(rows)

    for objective, same in (
        (DReG(num_samples=4), IWAE(num_samples=4)),
        (STL(beta=1.0, num_samples=1), monte_carlo_elbo(1)),
    ):
        found = draws(objective)
        assert_equal_in_expectation(found, draws(same))
        torch.testing.assert_close(draws(objective, again, 1), found[:1])


def test_partial_gradients_hold_z_of_the_other_levels_fixed() -> None:
    trace = make_two_levels().trace(images(), 3)
    zs = [latent.z for latent in trace.latents]
    found = partial_gradients(trace.log_q, zs)
    fixed = [z.detach().requires_grad_() for z in zs]
    model = make_two_levels()
    q = model.posterior(trace.x, fixed[0])
    log_q = trace.latents[0].q.log_prob(fixed[0]) + q.log_prob(fixed[1])  # type: ignore[no-untyped-call]
    expected = torch.autograd.grad(log_q.sum(), fixed)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    total = torch.autograd.grad(trace.log_q.sum(), zs[0], retain_graph=True)[0]
    assert (total - found[0]).norm() > 0.1 * total.norm()  # the total one includes what happens through z_2
    assert not any(z._backward_hooks for z in zs)


def test_evaluation_of_two_levels_needs_no_gradients() -> None:
    model, x = make_two_levels(), images()
    objectives = (STL(beta=1.0, num_samples=2), DReG(num_samples=2), PIWAE(num_samples=2, groups=1))

    def values() -> list[float]:
        torch.manual_seed(0)
        return [objective(model.trace(x, 2), 0).total.item() for objective in objectives]

    expected = values()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert values() == expected


def test_a_weight_of_the_kl_may_differ_by_example() -> None:
    class ByExample(NegativeELBO):
        def kl_weight(self, trace: Trace, step: float) -> Tensor:
            return trace.context["log_beta"].exp()

    model, x = make_two_levels(), images()
    plain = model.trace(x, 2)
    trace = Trace(plain.x, plain.px, plain.latents, {"log_beta": torch.tensor([-1.0, 0.0, 1.0, 2.0, -5.0]).double()})
    loss = ByExample(beta=1.0, num_samples=2)(trace, 0)
    betas = trace.context["log_beta"].exp()
    torch.testing.assert_close(loss.total, (betas * trace.kl - trace.log_px).mean())
    torch.testing.assert_close(loss.terms["beta"], betas.mean())
    torch.testing.assert_close(loss.terms["nelbo"], (trace.kl - trace.log_px).mean())
