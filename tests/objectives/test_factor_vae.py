"""The discriminator: what it estimates, and what its gradients reach."""

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


def objective(gamma: float = 10.0, latent_dim: int = 3, **changes: object) -> FactorVAE:
    options = {"hidden": [16, 16], "discriminator_lr": 1e-3, "discriminator_betas": [0.5, 0.9], "num_samples": 2}
    return FactorVAE(gamma=gamma, latent_dim=latent_dim, **(options | changes))  # type: ignore[arg-type]


def gradients(total: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True))


def test_the_total_correlation_of_a_correlated_gaussian() -> None:
    """TC = -1/2 log(1 - rho^2). The discriminator is trained through the objective alone; within 0.03 and 4 errors."""
    rho = 0.8
    factor = torch.linalg.cholesky(torch.tensor([[1.0, rho], [rho, 1.0]]))
    q = FullNormal(torch.zeros(1000, 2), factor.expand(1000, 2, 2))
    made = objective(latent_dim=2, hidden=[32, 32])
    optimizer = torch.optim.Adam(made.parameters(), **(made.optimizer_options() | {"lr": 5e-3}))
    for _ in range(300):
        optimizer.zero_grad()
        made(trace_of(q, q.sample((2,))), 0).total.backward()
        optimizer.step()
    z = q.sample((50,))
    with torch.no_grad():
        terms = made(trace_of(q, z), math.inf).terms
        error = made.discriminator(z).std() / math.sqrt(z[..., 0].numel())
    exact = -0.5 * math.log(1 - rho**2)
    assert abs(float(terms["total_correlation"]) - exact) < 0.03 + 4 * error and error < 0.01
    assert terms["discriminator"] < math.log(2)  # that of a coin


def test_each_unit_is_permuted_on_its_own_and_keeps_its_values() -> None:
    z = torch.randn(2, 500, 3)
    z[..., 1] = z[..., 0]
    permuted = permute_units(z)
    torch.testing.assert_close(permuted.sort(dim=1).values, z.sort(dim=1).values)  # within each sample of the codes
    assert (torch.corrcoef(permuted[0].T) - torch.eye(3)).abs().max() < 4 / math.sqrt(500)
    assert not torch.equal(permuted[..., 2], z[..., 2])


def test_the_discriminator_is_trained_by_its_cross_entropy_alone() -> None:
    model, made = make_vae(), objective()
    trace = model.trace(images(), 2)
    (z,) = (latent.z.detach() for latent in trace.latents)
    torch.manual_seed(5)
    total = made(trace, 0).total
    torch.manual_seed(5)
    own, permuted = made.discriminator(z), made.discriminator(permute_units(z))
    by_hand = -0.5 * (own.sigmoid().log().mean() + (1 - permuted.sigmoid()).log().mean())
    parameters = list(made.parameters())
    for one, other in zip(gradients(total, parameters), gradients(by_hand, parameters), strict=True):
        torch.testing.assert_close(one, other)
        assert one.any()


def test_the_model_is_trained_by_the_elbo_and_the_total_correlation_alone() -> None:
    model, made = make_vae(), objective(gamma=7.0)
    trace, parameters = model.trace(images(), 2), list(model.parameters())
    by_hand = NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total + 7 * made.discriminator(trace.latents[0].z).mean()
    for one, other in zip(gradients(made(trace, 0).total, parameters), gradients(by_hand, parameters), strict=True):
        torch.testing.assert_close(one, other)
    neutral, plain = objective(gamma=0)(trace, 0).total, NegativeELBO(beta=1.0, num_samples=2)(trace, 0).total
    torch.testing.assert_close(neutral, plain)
    for one, other in zip(gradients(neutral, parameters), gradients(plain, parameters), strict=True):
        torch.testing.assert_close(one, other)


def test_the_cross_entropy_does_not_show_in_the_value() -> None:
    made = objective(gamma=7.0).eval()
    with torch.no_grad():
        loss = made(make_vae().eval().trace(images(count=1), 2), math.inf)
    torch.testing.assert_close(loss.total, loss.terms["nelbo"] + 7 * loss.terms["total_correlation"])
    assert loss.terms["discriminator"] > 0


def test_the_discriminator_has_an_optimiser_of_its_own() -> None:
    assert objective().optimizer_options() == {"lr": 1e-3, "betas": (0.5, 0.9)}
    for changes, told in (
        ({"discriminator_lr": 0}, "discriminator_lr=0: must be a finite number above 0"),
        ({"discriminator_betas": [0.5]}, r"discriminator_betas=\[0.5\]: must be two numbers"),
        ({"discriminator_betas": [0.5, 1]}, r"discriminator_betas=\[0.5, 1\]: must be two numbers"),
        ({"hidden": []}, r"hidden=\[\]: must be a list of length 1 or more"),
    ):
        with pytest.raises(ConfigError, match=f"^{told}"):
            objective(**changes)  # type: ignore[arg-type]


def test_what_has_no_meaning_is_refused_by_name() -> None:
    codes = OneHots(torch.zeros(2, 4, 5))
    with pytest.raises(ConfigError, match="^objective=factor: needs vectors, and z are one-hot codes"):
        objective().check(trace_of(codes, codes.sample((1,)), OneHots(torch.zeros(4, 5))))
    q = DiagonalNormal(torch.zeros(2, 3), torch.ones(2, 3))
    with pytest.raises(ConfigError, match="^objective=factor: is for one level of latents, and the model has 2"):
        objective().check(trace_of(q, q.sample((1,)), levels=2))
    with pytest.raises(ConfigError, match="^objective.latent_dim=4: must be the model's latent_dim, 3"):
        objective(latent_dim=4).check(trace_of(q, q.sample((1,))))
