"""DIP-VAE: covariances against torch.cov, and codes without a penalty."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import DiagonalNormal, FullNormal, OneHots
from nelbo.errors import ConfigError
from nelbo.objectives import DIP, NegativeELBO
from nelbo.schedules import Linear
from tests.helpers.factors import images, make_vae
from tests.helpers.traces import trace_of

LOC = torch.randn(9, 3, generator=torch.Generator().manual_seed(1))
SCALE = 0.5 + torch.rand(9, 3, generator=torch.Generator().manual_seed(2))
FACTOR = torch.diag_embed(SCALE) + torch.randn(9, 3, 3, generator=torch.Generator().manual_seed(3)).tril(-1)

# q(z|x), and its covariance for each image.
POSTERIORS: dict[str, tuple[Distribution, Tensor]] = {
    "diagonal_normal": (DiagonalNormal(LOC, SCALE), torch.diag_embed(SCALE.square())),
    "laplace": (Independent(Laplace(LOC, SCALE), 1), torch.diag_embed(2 * SCALE.square())),
    "full_normal": (FullNormal(LOC, FACTOR), FACTOR @ FACTOR.mT),
}


def objective(variant: str, off_diagonal: float = 10.0, diagonal: float = 5.0, beta: float = 1.0) -> DIP:
    return DIP(beta=beta, variant=variant, lambda_off_diagonal=off_diagonal, lambda_diagonal=diagonal, num_samples=2)


@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("variant", ["i", "ii"])
def test_the_penalty_matches_the_covariance(name: str, variant: str) -> None:
    q, covariances = POSTERIORS[name]
    trace = trace_of(q, q.rsample((2,)))
    objective(variant).check(trace)
    expected = torch.cov(LOC.T, correction=0) + (covariances.mean(0) if variant == "ii" else 0)
    off_diagonal = sum(expected[i, j] ** 2 for i in range(3) for j in range(3) if i != j)
    diagonal = sum((expected[i, i] - 1) ** 2 for i in range(3))
    loss = objective(variant, beta=0.5)(trace, 0)
    torch.testing.assert_close(loss.terms["off_diagonal"], off_diagonal)
    torch.testing.assert_close(loss.terms["diagonal"], diagonal)
    weighted_elbo = loss.terms["reconstruction"] + 0.5 * loss.terms["kl"]
    torch.testing.assert_close(loss.total, weighted_elbo + 10 * off_diagonal + 5 * diagonal)


def test_codes_with_identity_covariance_have_no_penalty() -> None:
    centred = torch.randn(40, 3).double()
    centred = centred - centred.mean(0)
    white = torch.linalg.qr(centred).Q * 40**0.5  # orthogonal columns of variance 1
    for variant, share in (("i", 1.0), ("ii", 0.6)):
        q = DiagonalNormal(white * share**0.5, torch.full((40, 3), 0.4**0.5).double())
        terms = objective(variant)(trace_of(q, q.rsample((2,))), 0).terms
        assert abs(terms["off_diagonal"]) < 1e-9 and abs(terms["diagonal"]) < 1e-9, variant
        terms = objective("ii" if variant == "i" else "i")(trace_of(q, q.rsample((2,))), 0).terms
        assert terms["diagonal"] == pytest.approx(3 * 0.4**2)


@pytest.mark.parametrize("variant", ["i", "ii"])
def test_without_penalty_weights_the_loss_is_the_elbo(variant: str) -> None:
    model = make_vae(posterior="full_normal")
    trace = model.trace(images(), 2)
    losses = [NegativeELBO(beta=2.0, num_samples=2)(trace, 0), objective(variant, 0, 0, beta=2.0)(trace, 0)]
    torch.testing.assert_close(losses[0].total, losses[1].total)
    gradients = [torch.autograd.grad(loss.total, list(model.parameters()), retain_graph=True) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_follow_schedules() -> None:
    q, _ = POSTERIORS["diagonal_normal"]
    trace = trace_of(q, q.rsample((2,)))
    scheduled = DIP(
        beta=1.0, variant="i", lambda_off_diagonal=Linear(steps=10, end=8.0), lambda_diagonal=0.0, num_samples=2
    )
    loss = scheduled(trace, 5)
    torch.testing.assert_close(loss.total, loss.terms["nelbo"] + 4 * loss.terms["off_diagonal"])


@pytest.mark.parametrize("variant", ["i", "ii"])
def test_the_loss_of_one_image_is_finite(variant: str) -> None:
    model = make_vae()
    loss = objective(variant)(model.trace(images(count=1), 2), 0)
    loss.total.backward()
    assert loss.total.isfinite() and all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert loss.terms["off_diagonal"] == 0
    if variant == "i":
        assert loss.terms["diagonal"] == 3


def test_unsupported_models_and_options_are_rejected() -> None:
    codes = OneHots(torch.zeros(2, 4, 5))
    with pytest.raises(ConfigError, match=r"^objective=dip: needs a q\(z\|x\) with a mean and a covariance in closed"):
        objective("i").check(trace_of(codes, codes.sample((1,)), OneHots(torch.zeros(4, 5))))
    with pytest.raises(ConfigError, match="^variant=iii: must be one of i, ii"):
        objective("iii")
    with pytest.raises(ConfigError, match="^lambda_diagonal=-1: must be a finite number of at least 0"):
        objective("i", diagonal=-1)
