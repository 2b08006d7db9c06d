"""The quadrature in tests/helpers, by which models with two scalar latents are tested."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Laplace, Normal

from nelbo.theory.gaussians import independent, standard_normal
from nelbo.theory.hierarchy import LinearHierarchy
from tests.helpers.quadrature import integrate


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_a_linear_model(scale: float, sigma: float) -> None:
    """Likelihoods of several images at once, one of them far away, and posterior moments."""
    one = torch.ones(1, dtype=torch.float64)
    lower = independent(1.3 * one[:, None], 0.4 * one, scale * one)
    weights = torch.tensor([[0.5, 1.0], [1.0, -0.7], [0.2, 0.1]]).double()
    model = LinearHierarchy(
        (standard_normal(1), lower), independent(weights, torch.zeros(3).double(), sigma * one.expand(3))
    )
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.5, 0.3], [4.0, 5.0, 2.0]]).double()

    def log_prior(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(0, 1).log_prob(z1) + Normal(1.3 * z1 + 0.4, scale).log_prob(z2)

    def log_likelihood(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(torch.stack([z1, z2], 1) @ weights.T, sigma).log_prob(x[:, None]).sum(-1)

    found = integrate(log_prior, log_likelihood)
    torch.testing.assert_close(found.log_evidence, model.log_prob(x), atol=1e-8, rtol=0)
    posterior = model.posterior.joint
    means = torch.stack([found.mean(lambda z1, z2: z1), found.mean(lambda z1, z2: z2)], 1)
    torch.testing.assert_close(means, posterior.mean(x), atol=1e-8, rtol=0)
    products = found.mean(lambda z1, z2: z1 * z2) - means.prod(1)
    torch.testing.assert_close(products, posterior.covariance[0, 1].expand(3), atol=1e-7, rtol=0)
    torch.testing.assert_close(found.weights.sum(-1), torch.ones(3).double())


def test_pixels_of_a_nonlinear_decoder() -> None:
    """Against Gauss-Legendre quadrature in (z_1, the noise of z_2), with numpy.

    Gauss-Hermite quadrature would be off by 3e-9 with 250 nodes per axis: the poles of tanh are near the real axis.
    """
    generator = np.random.default_rng(0)
    weights, x = generator.normal(size=(2, 12)) * 1.5, (generator.random(12) > 0.5).astype(float)

    def log_prior(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(0, 1).log_prob(z1) + Normal(2 * torch.tanh(z1), 0.5).log_prob(z2)

    def log_likelihood(z1: Tensor, z2: Tensor) -> Tensor:
        logits = torch.tanh(z1)[:, None] * torch.tensor(weights[0]) + z2[:, None] * torch.tensor(weights[1])
        return (torch.tensor(x) * logits - torch.nn.functional.softplus(logits)).sum(1)

    nodes, node_weights = (11 * values for values in np.polynomial.legendre.leggauss(300))
    node_weights *= np.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)
    z1, noise = np.meshgrid(nodes, nodes, indexing="ij")
    z2 = 2 * np.tanh(z1) + 0.5 * noise
    logits = np.tanh(z1)[..., None] * weights[0] + z2[..., None] * weights[1]
    likelihood = np.exp((x * logits - np.logaddexp(0, logits)).sum(-1))
    expected = math.log((np.outer(node_weights, node_weights) * likelihood).sum())
    assert integrate(log_prior, log_likelihood).log_evidence.item() == pytest.approx(expected, abs=1e-8)


def test_several_far_modes() -> None:
    """A likelihood of |z_1| and |z_2| has four modes; its integral is four times that of one quadrant."""

    def log_prior(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(0, 10).log_prob(z1) + Normal(0, 10).log_prob(z2)

    def log_likelihood(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(z1.square(), 5).log_prob(torch.tensor(400.0)) + Normal(z2.square(), 5).log_prob(
            torch.tensor(100.0)
        )

    axis = torch.linspace(0, 40, 1_000_001, dtype=torch.float64)
    expected = 0.0
    for square in (400.0, 100.0):
        values = Normal(0, 10).log_prob(axis) + Normal(axis.square(), 5).log_prob(torch.tensor(square))
        expected += math.log(2 * torch.trapezoid(values.exp(), axis).item())
    assert integrate(log_prior, log_likelihood).log_evidence.item() == pytest.approx(expected, abs=1e-8)


def test_what_it_cannot_integrate_is_refused() -> None:
    def log_normal(z1: Tensor, z2: Tensor) -> Tensor:
        return Normal(0, 1).log_prob(z1) + Normal(0, 1).log_prob(z2)

    with pytest.raises(ArithmeticError, match="still changes"):
        integrate(log_normal, lambda z1, z2: Laplace(0.3, 0.01).log_prob(z2))
    with pytest.raises(ArithmeticError, match="boundary"):
        integrate(lambda z1, z2: Normal(0, 1).log_prob(z1), lambda z1, z2: torch.zeros_like(z1))
