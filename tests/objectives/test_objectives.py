"""The ELBO and the reconstruction: weights, schedules, and explicit sums."""

import math

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.objectives import NegativeELBO, Reconstruction
from nelbo.schedules import Linear
from tests.helpers.factors import PRIORS, images, make_vae


def test_the_loss_is_reconstruction_plus_beta_kl_and_nelbo_is_always_at_beta_one() -> None:
    trace = make_vae().trace(images(), 3)
    for beta in (0.0, 0.5, 1.0, 4.0):
        loss = NegativeELBO(beta=beta, num_samples=3)(trace, 0)
        torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + beta * loss.terms["kl"])
        torch.testing.assert_close(loss.terms["nelbo"], loss.terms["reconstruction"] + loss.terms["kl"])
        assert loss.terms["beta"] == beta


def test_the_sum_is_over_pixels_and_latents_and_the_mean_over_examples() -> None:
    trace = make_vae(likelihood="gaussian_fixed").trace(images(count=2), 1)
    expected = torch.zeros(())
    for example in range(2):
        q, px = trace.latents[0].q, trace.px
        for mu, sigma in zip(q.loc[example], q.scale[example], strict=True):  # type: ignore[attr-defined]
            expected = expected + 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log())
        for pixel, mean in zip(trace.x[example].flatten(), px.mean[0, example].flatten(), strict=True):
            expected = expected + 0.5 * ((pixel - mean) / 0.3) ** 2 + math.log(0.3) + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(NegativeELBO(beta=1.0, num_samples=1)(trace, 0).total, expected / 2)


def test_a_schedule_sets_the_weight_of_the_kl_by_step() -> None:
    objective = NegativeELBO(beta=Linear(end=2.0, steps=100), num_samples=1)
    trace = make_vae().trace(images())
    assert [objective(trace, step).terms["beta"] for step in (0, 25, 100, 10**9, math.inf)] == [0, 0.5, 2, 2, 2]


@pytest.mark.parametrize("prior", [name for name in PRIORS if name not in ("standard_normal", "vamp")])
def test_reconstruction_rejects_a_prior_with_parameters(prior: str) -> None:
    trace = make_vae(posterior="deterministic", prior=prior).trace(images(), 1)
    with pytest.raises(ConfigError, match="^objective=reconstruction: has no KL, so nothing would train the prior"):
        Reconstruction(num_samples=1).check(trace)
    Reconstruction(num_samples=1).check(make_vae(posterior="deterministic").trace(images(), 1))


def test_a_plain_autoencoder_has_no_elbo_term() -> None:
    trace = make_vae(posterior="deterministic").trace(images(), 1)
    loss = Reconstruction(num_samples=1)(trace, 0)
    assert set(loss.terms) == {"reconstruction"}
    with pytest.raises(ConfigError, match="num_samples=0"):
        Reconstruction(num_samples=0)
