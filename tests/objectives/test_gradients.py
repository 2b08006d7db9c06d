"""Gradient estimators of bounds: unbiased, and with less variance where that is claimed.

theta are the parameters of p, phi those of q. With a VampPrior the encoder belongs to both; here p and q have separate
copies of the model, so that the two gradients can be told apart.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, Flow, FullNormal, sample_with_density
from nelbo.models import VAE
from nelbo.objectives import IWAE, MIWAE, PIWAE, STL, DReG, NegativeELBO, Objective
from nelbo.trace import Latent, Trace
from tests.helpers.factors import images, make_vae
from tests.helpers.linear_vae import exact_posterior, linear_vae

SHAPE, LATENT_DIM = (1, 3, 3), 2
SAMPLES = 4
PAIRS = [
    ("diagonal_normal", "standard_normal"),
    ("diagonal_normal", "vamp"),
    ("diagonal_normal", "mixture"),
    ("laplace", "diagonal_normal"),
    ("full_normal", "standard_normal"),
    ("flow_coupling", "mixture"),
]


def tiny_vae(posterior: str, prior: str) -> VAE:
    """Return a VAE away from the initial values, at which all weights are nearly equal and no estimator would fail."""
    torch.manual_seed(3)
    model = make_vae("mlp", posterior, prior, "gaussian_fixed", SHAPE, LATENT_DIM).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


class Split:
    """Two copies of a model, one for q and one for p."""

    def __init__(self, model: VAE) -> None:
        self.q, self.p = model, copy.deepcopy(model)

    def trace(self, x: Tensor, num_samples: int) -> Trace:
        """Return a trace with q of one copy and p of the other."""
        q = self.q.encode(x)
        z, log_q = sample_with_density(q, num_samples)
        return Trace(x, self.p.decode(z), (Latent(q, self.p.prior(self.p.encode), z, log_q),))

    def gradients(self, objective: Objective, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the gradients of phi and of theta, each in one vector."""
        torch.manual_seed(seed)
        total = objective(self.trace(x, objective.num_samples), 0).total
        phi, theta = list(self.q.parameters()), list(self.p.parameters())
        result = torch.autograd.grad(total, [*phi, *theta], allow_unused=True, materialize_grads=True)
        flat = [gradient.flatten() for gradient in result]
        return torch.cat(flat[: len(phi)]), torch.cat(flat[len(phi) :])

    def draws(self, objective: Objective, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the gradients for `count` seeds, in rows."""
        phi, theta = zip(*(self.gradients(objective, x, seed) for seed in range(count)), strict=True)
        return torch.stack(phi), torch.stack(theta)


def repeated_images(count: int) -> Tensor:
    """Return three images, each `count` times, which gives that many draws at once."""
    return images(count=3, shape=SHAPE).double().repeat(count, 1, 1, 1)


def assert_equal_in_expectation(draws: Tensor, expected: Tensor) -> None:
    """Assert for draws in rows that the means differ by less than 5 standard errors, which are small."""
    difference = draws - expected
    error = difference.std(dim=0) / len(difference) ** 0.5
    size = expected.mean(dim=0).norm()
    assert (difference.mean(dim=0).abs() <= 5 * error + 1e-9 * size).all()
    assert 0 < error.norm() < 0.03 * size


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_dreg_and_stl_have_the_mean_gradients_of_iwae_and_the_elbo(posterior: str, prior: str) -> None:
    split, x = Split(tiny_vae(posterior, prior)), repeated_images(60)
    phi, theta = split.draws(DReG(num_samples=SAMPLES), x, 25)
    expected_phi, expected_theta = split.draws(IWAE(num_samples=SAMPLES), x, 25)
    assert_equal_in_expectation(phi, expected_phi)
    torch.testing.assert_close(theta, expected_theta)  # sample by sample

    phi, theta = split.draws(STL(beta=0.7, num_samples=1), x, 25)
    expected_phi, expected_theta = split.draws(NegativeELBO(beta=0.7, num_samples=1), x, 25)
    assert_equal_in_expectation(phi, expected_phi)
    if (posterior, prior) == ("laplace", "diagonal_normal"):  # the ELBO has a KL in closed form to a learned prior
        assert_equal_in_expectation(theta, expected_theta)
    else:
        torch.testing.assert_close(theta, expected_theta)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_piwae_is_miwae_for_phi_and_iwae_for_theta_sample_by_sample(posterior: str, prior: str) -> None:
    split, x = Split(tiny_vae(posterior, prior)), repeated_images(2)
    phi, theta = split.gradients(PIWAE(num_samples=6, groups=3), x, 0)
    miwae_phi, miwae_theta = split.gradients(MIWAE(num_samples=6, groups=3), x, 0)
    iwae_phi, iwae_theta = split.gradients(IWAE(num_samples=6), x, 0)
    torch.testing.assert_close(phi, miwae_phi)
    torch.testing.assert_close(theta, iwae_theta, rtol=1e-5, atol=2e-7 * iwae_theta.norm().item())  # LEAST_SHARE
    assert (phi - iwae_phi).norm() > 0.05 * phi.norm() and (theta - miwae_theta).norm() > 0.05 * theta.norm()


def test_a_shared_encoder_gets_the_sum_of_both_gradients() -> None:
    """With a VampPrior the encoder is part of the prior too."""
    model, x = tiny_vae("diagonal_normal", "vamp"), repeated_images(2)
    for objective in (DReG(num_samples=4), PIWAE(num_samples=4, groups=2), STL(beta=1.0, num_samples=4)):
        parts = Split(model).gradients(objective, x, 0)
        torch.manual_seed(0)
        total = objective(model.trace(x, 4), 0).total
        gradients = torch.autograd.grad(total, list(model.parameters()))
        torch.testing.assert_close(torch.cat([gradient.flatten() for gradient in gradients]), sum(parts))


def test_piwae_is_accurate_in_float32_if_groups_differ_by_hundreds_of_nats() -> None:
    """Samples 0 and 2 are one group; 1 and 3 are the other, whose weights for theta underflow in float32."""
    model = tiny_vae("diagonal_normal", "standard_normal")
    x = images(count=3, shape=SHAPE).double()
    noise = torch.randn(1, 3, LATENT_DIM).double() + torch.tensor([0.0, 30, 0.02, 30.001]).double().reshape(-1, 1, 1)

    class Fixed(Split):
        def trace(self, x: Tensor, num_samples: int) -> Trace:
            q = self.q.encode(x)
            assert isinstance(q, DiagonalNormal)
            z = q.loc + q.scale * noise.to(x.dtype)
            return Trace(x, self.p.decode(z), (Latent(q, self.p.prior(self.p.encode), z),))

    exact, single = Fixed(model), Fixed(copy.deepcopy(model).float())
    log_weight = exact.trace(x, 4).log_weight
    assert (log_weight[::2].amin(0) - log_weight[1::2].amax(0)).min() > 200
    share = log_weight.unflatten(0, (2, 2)).softmax(dim=0)
    assert (share.amin(0) > 0.01).all()  # within a group both samples count

    phi, theta = single.gradients(PIWAE(num_samples=4, groups=2), x.float(), 0)
    miwae_phi, _ = exact.gradients(MIWAE(num_samples=4, groups=2), x, 0)
    _, iwae_theta = exact.gradients(IWAE(num_samples=4), x, 0)
    for result, expected in ((phi, miwae_phi), (theta, iwae_theta)):
        assert result.isfinite().all() and (result - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("posterior", ["full_normal", "flow_coupling"])
def test_evaluation_neither_needs_gradients_nor_inverts_flows(posterior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = tiny_vae(posterior, "standard_normal"), images(count=3, shape=SHAPE).double()
    objectives = (STL(beta=1.0, num_samples=2), DReG(num_samples=2), PIWAE(num_samples=2, groups=1))

    def values() -> list[float]:
        torch.manual_seed(0)
        return [objective(model.trace(x, 2), 0).total.item() for objective in objectives]

    expected = values()
    monkeypatch.delattr(Flow, "log_prob")  # leaves the method of the base class, which is not implemented
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert values() == expected


def noise(draws: Tensor) -> float:
    """Return the variance of gradient draws in rows, summed over parameters."""
    return draws.var(dim=0).sum().item()


def test_at_the_exact_posterior_stl_and_dreg_have_no_noise() -> None:
    model, x = linear_vae()
    posterior = exact_posterior(model, x.expand(5, -1, -1, -1))
    parameters = [posterior.loc.detach().requires_grad_(), posterior.scale_tril.detach().requires_grad_()]

    def gradient(objective: Objective) -> Tensor:
        q = FullNormal(*parameters)
        z, log_q = sample_with_density(q, objective.num_samples)
        trace = Trace(x.expand(5, -1, -1, -1), model.decode(z), (Latent(q, model.prior(model.encode), z, log_q),))
        return torch.cat([g.flatten() for g in torch.autograd.grad(objective(trace, 0).total, parameters)])

    for objective in (STL(beta=1.0, num_samples=1), DReG(num_samples=5)):
        assert gradient(objective).abs().max() < 1e-10
    for objective in (NegativeELBO(beta=1.0, num_samples=1), IWAE(num_samples=5)):
        assert gradient(objective).abs().max() > 0.01


def test_on_a_trained_model_dreg_and_stl_are_less_noisy() -> None:
    torch.manual_seed(0)
    model = make_vae("mlp", likelihood="gaussian_fixed", shape=SHAPE, latent_dim=LATENT_DIM)
    curved = torch.tanh(torch.randn(64, LATENT_DIM) @ torch.randn(LATENT_DIM, 9))
    x = curved.reshape(-1, *SHAPE)
    elbo, stl = NegativeELBO(beta=1.0, num_samples=1), STL(beta=1.0, num_samples=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        elbo(model.trace(x), 0).total.backward()
        optimizer.step()
    assert model.trace(x).kl.mean() > 1.5  # both units are used

    split = Split(model)
    iwae, dreg = IWAE(num_samples=8), DReG(num_samples=8)
    noises = {objective.name: noise(split.draws(objective, x, 50)[0]) for objective in (elbo, stl, iwae, dreg)}
    assert noises["stl"] < 0.5 * noises["elbo"]
    assert noises["dreg"] < 0.5 * noises["iwae"]
