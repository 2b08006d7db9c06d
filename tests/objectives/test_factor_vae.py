"""FactorVAE: what the discriminator estimates, and which parameters each gradient reaches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, FullNormal, OneHots
from nelbo.errors import ConfigError
from nelbo.objectives import FactorVAE, NegativeELBO
from nelbo.objectives.discriminator import permute_units
from tests.helpers.factors import images, make_vae
from tests.helpers.traces import trace_of
from tests.helpers.two_levels import SHAPE as LEVELS_SHAPE
from tests.helpers.two_levels import make_two_levels


def objective(gamma: float = 10.0, latent_dim: int = 3, **changes: object) -> FactorVAE:
    options = {"hidden": [16, 16], "discriminator_lr": 1e-3, "discriminator_betas": [0.5, 0.9], "num_samples": 2}
    return FactorVAE(gamma=gamma, latent_dim=latent_dim, **(options | changes))  # type: ignore[arg-type]


def gradients(total: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True))


def test_the_total_correlation_of_a_correlated_gaussian() -> None:
    """TC = -1/2 log(1 - rho^2), within 0.03 plus 4 standard errors; only the objective trains the discriminator."""
    rho = 0.8
    factor = torch.linalg.cholesky(torch.tensor([[1.0, rho], [rho, 1.0]]))
    q = FullNormal(torch.zeros(1000, 2), factor.expand(1000, 2, 2))
    factor_vae = objective(latent_dim=2, hidden=[32, 32])
    optimizer = torch.optim.Adam(factor_vae.parameters(), **(factor_vae.optimizer_options() | {"lr": 5e-3}))
    steps = 500
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)  # a constant rate leaves noise of 0.1
    for _ in range(steps):
        optimizer.zero_grad()
        factor_vae(trace_of(q, q.sample((2,))), 0).total.backward()
        optimizer.step()
        scheduler.step()
    z = q.sample((50,))
    with torch.no_grad():
        terms = factor_vae(trace_of(q, z), math.inf).terms
        error = factor_vae.discriminator(z).std() / math.sqrt(z[..., 0].numel())
    exact = -0.5 * math.log(1 - rho**2)
    assert abs(float(terms["total_correlation"]) - exact) < 0.03 + 4 * error and error < 0.01
    assert terms["discriminator"] < math.log(2)  # that of guessing


def test_each_unit_is_permuted_independently_and_keeps_its_values() -> None:
    z = torch.randn(2, 500, 3)
    z[..., 1] = z[..., 0]
    permuted = permute_units(z)
    torch.testing.assert_close(permuted.sort(dim=1).values, z.sort(dim=1).values)  # within each Monte Carlo sample
    assert (torch.corrcoef(permuted[0].T) - torch.eye(3)).abs().max() < 4 / math.sqrt(500)
    assert not torch.equal(permuted[..., 2], z[..., 2])


def test_the_discriminator_is_trained_by_its_cross_entropy_alone() -> None:
    model, factor_vae = make_vae(), objective()
    trace = model.trace(images(), 2)
    (z,) = (latent.z.detach() for latent in trace.latents)
    torch.manual_seed(5)
    total = factor_vae(trace, 0).total
    torch.manual_seed(5)
    joint_logits, permuted_logits = factor_vae.discriminator(z), factor_vae.discriminator(permute_units(z))
    expected = -0.5 * (joint_logits.sigmoid().log().mean() + (1 - permuted_logits.sigmoid()).log().mean())
    parameters = list(factor_vae.parameters())
    for one, other in zip(gradients(total, parameters), gradients(expected, parameters), strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


def test_the_model_is_trained_by_the_elbo_and_the_total_correlation_alone() -> None:
    model, factor_vae = make_vae(), objective(gamma=7.0)
    trace, parameters = model.trace(images(), 2), list(model.parameters())
    total_correlation = factor_vae.discriminator(trace.latents[0].z).mean()
    expected = NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total + 7 * total_correlation
    total = factor_vae(trace, 0).total
    for one, other in zip(gradients(total, parameters), gradients(expected, parameters), strict=True):
        torch.testing.assert_close(one, other)
    neutral, plain = objective(gamma=0)(trace, 0).total, NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total
    torch.testing.assert_close(neutral, plain)
    for one, other in zip(gradients(neutral, parameters), gradients(plain, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_the_cross_entropy_does_not_change_the_value_of_the_loss() -> None:
    factor_vae = objective(gamma=7.0).eval()
    with torch.no_grad():
        loss = factor_vae(make_vae().eval().trace(images(count=1), 2), math.inf)
    torch.testing.assert_close(loss.total, loss.terms["nelbo"] + 7 * loss.terms["total_correlation"])
    assert loss.terms["discriminator"] > 0


def test_the_discriminator_has_its_own_optimiser_options() -> None:
    assert objective().optimizer_options() == {"lr": 1e-3, "betas": (0.5, 0.9)}
    for changes, message in (
        ({"discriminator_lr": 0}, "discriminator_lr=0: must be a finite number above 0"),
        ({"discriminator_betas": [0.5]}, r"discriminator_betas=\[0.5\]: must be two numbers"),
        ({"discriminator_betas": [0.5, 1]}, r"discriminator_betas=\[0.5, 1\]: must be two numbers"),
        ({"hidden": []}, r"hidden=\[\]: must be a list of length 1 or more"),
    ):
        with pytest.raises(ConfigError, match=f"^{message}"):
            objective(**changes)  # type: ignore[arg-type]


def test_unsupported_models_are_rejected() -> None:
    codes = OneHots(torch.zeros(2, 4, 5))
    with pytest.raises(ConfigError, match="^objective=factor: needs continuous latents, but z are one-hot codes"):
        objective().check(trace_of(codes, codes.sample((1,)), OneHots(torch.zeros(4, 5))))
    q = DiagonalNormal(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(ConfigError, match="^objective.latent_dim=4: must equal the model's latent_dim, 3"):
        objective(latent_dim=4).check(trace_of(q, q.sample((1,))))
    with pytest.raises(
        ConfigError, match="^objective.latent_dim=3: must equal the number of elements of the top level, 2"
    ):
        objective().check(make_two_levels().trace(torch.rand(2, *LEVELS_SHAPE).double(), 1))
