"""Multi-sample bounds against exact likelihoods of linear models and against each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.config.build import build
from nelbo.distributions import FullNormal, OneHots, Quantized
from nelbo.errors import ConfigError
from nelbo.models import VAE
from nelbo.objectives import CIWAE, IWAE, MIWAE, PIWAE, STL, DReG, NegativeELBO, Objective
from nelbo.trace import Latent, Trace
from tests.helpers.exact import exact
from tests.helpers.factors import images, make_vae
from tests.helpers.linear_vae import exact_posterior, linear_vae


def trace_of(model: VAE, x: Tensor, q: FullNormal, num_samples: int) -> Trace:
    """Return a trace with a given q instead of the encoder's."""
    z, log_q = q.rsample_and_log_prob((num_samples,))
    return Trace(x, model.decode(z), (Latent(q, model.prior(model.encode), z, log_q),))


def one_hot_trace(q: Distribution) -> Trace:
    """Return a trace whose z are two one-hot codes of four classes."""
    trace = make_vae().trace(images(), 4)
    p = OneHots(torch.zeros(2, 4))
    return Trace(trace.x, trace.px, (Latent(q, p, q.sample(torch.Size((4,)))),))


@torch.no_grad()
def test_the_bound_is_the_log_of_an_unbiased_estimate_and_rises_to_log_p() -> None:
    model, x = linear_vae()
    gaps, errors = [], []
    for samples, count in ((1, 4000), (5, 4000), (50, 2000), (1000, 250)):
        repeated = x.expand(count, -1, -1, -1)
        gap = IWAE(num_samples=samples).bound(model.trace(repeated, samples)) - exact(model, repeated)
        ratio = gap.exp()
        assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(count) < 0.1
        gaps.append(gap.mean())
        errors.append(gap.std() / math.sqrt(count))
    for (low, high), (first, second) in zip(
        zip(gaps, gaps[1:], strict=False), zip(errors, errors[1:], strict=False), strict=True
    ):
        assert high - low > 4 * math.hypot(first, second)  # all of these bounds differ
    assert gaps[0] < -2 and abs(gaps[-1]) < 4 * errors[-1] < 0.02


@torch.no_grad()
def test_one_sample_is_the_monte_carlo_elbo() -> None:
    model, x = linear_vae()
    trace = model.trace(x.expand(5000, -1, -1, -1), 1)
    loss = IWAE(num_samples=1)(trace, 0)
    torch.testing.assert_close(loss.total, -(trace.log_px + trace.latents[0].log_p - trace.latents[0].log_q).mean())
    elbo = NegativeELBO(beta=1.0, num_samples=1)(trace, 0)
    differences = trace.log_weight - (trace.log_px - trace.kl)
    assert abs(loss.total - elbo.total) < 4 * differences.std() / math.sqrt(5000)
    assert loss.terms["nelbo"] == elbo.total and loss.terms["negative_bound"] == loss.total


@torch.no_grad()
@pytest.mark.parametrize("samples", [1, 4])
def test_every_bound_equals_log_p_at_the_exact_posterior(samples: int) -> None:
    model, x = linear_vae()
    x = x.expand(50, -1, -1, -1)
    trace = trace_of(model, x, exact_posterior(model, x), samples)
    for objective in (
        IWAE(num_samples=samples),
        MIWAE(num_samples=samples, groups=samples),
        DReG(num_samples=samples),
        PIWAE(num_samples=samples, groups=samples),
    ):
        torch.testing.assert_close(objective.bound(trace), exact(model, x), rtol=0, atol=1e-9)
    torch.testing.assert_close(STL(beta=1.0, num_samples=samples)(trace, 0).total, -exact(model, x).mean())


@torch.no_grad()
def test_miwae_is_the_mean_of_its_groups_between_iwae_and_the_elbo() -> None:
    trace = make_vae("mlp", likelihood="gaussian_fixed").trace(images(), 6)
    log_weight = trace.log_weight

    def miwae(groups: int) -> Tensor:
        return MIWAE(num_samples=6, groups=groups)(trace, 0).total

    torch.testing.assert_close(miwae(1), IWAE(num_samples=6)(trace, 0).total)
    torch.testing.assert_close(miwae(6), -log_weight.mean())
    for groups in (2, 3):
        by_hand = [log_weight[group::groups].double().exp().mean(dim=0).log() for group in range(groups)]
        torch.testing.assert_close(miwae(groups), -torch.stack(by_hand).mean().float())
    assert miwae(1) < miwae(2) < miwae(3) < miwae(6)


@torch.no_grad()
def test_ciwae_lies_between_iwae_and_the_elbo_with_its_closed_kl() -> None:
    trace = make_vae(likelihood="gaussian_fixed").trace(images(), 5)
    iwae = IWAE(num_samples=5)(trace, 0).total
    elbo = NegativeELBO(beta=1.0, num_samples=5)(trace, 0).total
    for share in (0, 0.3, 1):
        total = CIWAE(num_samples=5, elbo_share=share)(trace, 0).total
        torch.testing.assert_close(total, share * elbo + (1 - share) * iwae)
    assert iwae < elbo - 1


@torch.no_grad()
def test_the_value_of_a_gradient_estimator_is_that_of_its_bound() -> None:
    """Validation, which selects the best checkpoint, uses the value only."""
    trace = make_vae(posterior="flow_coupling", prior="mixture").trace(images(), 6)
    iwae = IWAE(num_samples=6)(trace, 0)
    for objective in (DReG(num_samples=6), PIWAE(num_samples=6, groups=3)):
        loss = objective(trace, 0)
        torch.testing.assert_close(loss.total, iwae.total)
        assert loss.terms["nelbo"] == iwae.terms["nelbo"]
    stl = STL(beta=0.5, num_samples=6)(trace, 0)
    elbo = NegativeELBO(beta=0.5, num_samples=6)(trace, 0)  # its KL has no closed form here
    torch.testing.assert_close(stl.total, elbo.total)


WEIGHTED: list[Objective] = [
    IWAE(num_samples=4),
    MIWAE(num_samples=4, groups=2),
    CIWAE(num_samples=4, elbo_share=0.5),
    DReG(num_samples=4),
    PIWAE(num_samples=4, groups=2),
    STL(beta=1.0, num_samples=4),
]


@pytest.mark.parametrize("objective", WEIGHTED, ids=lambda objective: objective.name)
def test_posteriors_without_importance_weights_are_rejected(objective: Objective) -> None:
    objective.check(make_vae(posterior="flow_coupling", prior="mixture").trace(images(), 4))
    with pytest.raises(ConfigError, match=f"^objective={objective.name}: posterior=deterministic has no log q"):
        objective.check(make_vae(posterior="deterministic").trace(images(), 4))
    code = torch.eye(4)[torch.randint(4, (7, 2))]
    for q in (OneHots(torch.randn(7, 2, 4)), Quantized(code, torch.randn(7, 2, 3), torch.randn(7, 2, 3))):
        with pytest.raises(ConfigError, match=f"^objective={objective.name}: one-hot samples have no reparam"):
            objective.check(one_hot_trace(q))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("IWAE", {"num_samples": 0}, "num_samples=0: must be a whole number of at least 1"),
        ("DReG", {"num_samples": 2.5}, "num_samples=2.5: must be a whole number of at least 1"),
        ("STL", {"num_samples": 1, "beta": -1}, "beta=-1: must be a finite number of at least 0, or a schedule"),
        ("MIWAE", {"num_samples": 16, "groups": 5}, "groups=5: must divide num_samples=16"),
        ("MIWAE", {"num_samples": 16, "groups": 0}, "groups=0: must be a whole number of at least 1"),
        ("PIWAE", {"num_samples": 4, "groups": 8}, "groups=8: must divide num_samples=4"),
        ("CIWAE", {"num_samples": 4, "elbo_share": 2}, "elbo_share=2: must be at most 1, which is the ELBO"),
        ("CIWAE", {"num_samples": 4, "elbo_share": -0.1}, "elbo_share=-0.1: must be a finite number of at least 0"),
    ],
)
def test_invalid_numbers_are_reported_in_one_line(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"nelbo.objectives.{name}", **arguments}, "objective")
    assert str(caught.value).startswith(f"objective.{message}") and "\n" not in str(caught.value)
