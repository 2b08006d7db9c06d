"""However far an encoder or an optimiser goes: a finite loss, or an error that names the term."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nelbo.errors import Diverged
from nelbo.heads.bounds import soft_bound
from nelbo.heads.posterior import LOG_SCALE_BOUND, DiagonalNormalPosterior
from nelbo.models import VAE
from nelbo.objectives import NegativeELBO, Reconstruction
from nelbo.training.callbacks.crash import Failure, failure
from tests.helpers.diverging import Poke, Training, VAEModule
from tests.helpers.factors import LIKELIHOODS, POSTERIORS, PRIORS, images, make_vae, refusal

PAIRS = [(posterior, prior) for posterior in POSTERIORS for prior in PRIORS if not refusal(posterior, prior)]
# Learned numbers about the scale of a density, which no network bounds.
SCALES = [
    (slot, name, scale)
    for slot, factors in (("likelihood", LIKELIHOODS), ("prior", PRIORS))
    for name in factors
    for scale, _ in getattr(make_vae(**{slot: name}), slot).named_parameters()
    if scale in ("log_sigma", "log_scale", "raw_concentration")
]


def step(model: VAE, x: Tensor, objective: str = "elbo") -> Failure:
    """What is not finite of a training step."""
    made = NegativeELBO(beta=1.0, num_samples=2) if objective == "elbo" else Reconstruction(num_samples=2)
    loss = made(model.trace(x, 2), 0)
    loss.total.backward()
    return failure(loss.total.detach(), loss.terms, model)


def push_encoder(model: VAE, size: float) -> None:
    """Its features of images become +-size."""

    def push(module: nn.Module, given: object, features: Tensor) -> Tensor:
        signs = torch.randint(2, features.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return 0 * features + size * signs

    model.encoder.register_forward_hook(push)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_kl_overflow(posterior: str, prior: str) -> None:
    """At 1e4 KL and gradients are finite; at 1e30 a KL is beyond float32 (1e59 where it is a square), and is named."""
    for size in (1e4, 1e30):
        model = make_vae(posterior=posterior, prior=prior)
        push_encoder(model, size)
        found = step(model, images())
        if size == 1e4:
            assert not found.is_of_loss, str(found)
            # Through an autoregressive flow some are too large to be squared: 1e20, at a KL of 1e19.
            assert all(part.grad.isfinite().all() for part in model.parameters() if part.grad is not None)
        else:
            assert not found.not_finite or str(found).startswith(("kl is ", "the gradient norm of ")), str(found)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_kl_overflow_of_a_deterministic_code_is_one_of_the_reconstruction(likelihood: str) -> None:
    for size in (1e4, 1e30):
        model = make_vae(posterior="deterministic", likelihood=likelihood)
        push_encoder(model, size)
        found = step(model, images(likelihood), "reconstruction")
        if size == 1e4:
            assert not found.not_finite, str(found)
        else:
            assert not found.not_finite or str(found).startswith(("reconstruction is ", "the gradient norm of "))


@pytest.mark.parametrize(("slot", "name", "scale"), SCALES)
@pytest.mark.parametrize("size", [-1e30, -1e4, -60.0, 60.0, 1e4, 1e30])
def test_kl_overflow_of_a_learned_scale(slot: str, name: str, scale: str, size: float) -> None:
    """Small ones end at a floor. Large ones are not bounded: an infinite sigma is named, a bound would hide it."""
    model = make_vae(**{slot: name})
    with torch.no_grad():
        getattr(getattr(model, slot), scale).fill_(size)
    found = step(model, images(name if slot == "likelihood" else "gaussian"))
    term = {"likelihood": "reconstruction is ", "prior": "kl is "}[slot]
    if size < 0 or scale == "raw_concentration":
        assert not found.not_finite, str(found)
    else:
        assert not found.not_finite or str(found).startswith((term, "the gradient norm of ")), str(found)


def test_kl_overflow_stops_a_run_by_name(tmp_path: Path) -> None:
    def push(module: VAEModule) -> None:
        push_encoder(module.model, 1e30)

    with pytest.raises(Diverged, match=r"at step 2 \(epoch 1, batch 3\): kl is inf"):
        Training(tmp_path, callbacks=(Poke(push, 2),)).fit()


def test_the_bound_of_log_sigma_keeps_no_value_out_of_reach() -> None:
    """It is a change of variables: each log sigma below the bound has one feature that makes it, with a gradient."""
    wanted = torch.linspace(-0.99, 0.99, 199).double() * LOG_SCALE_BOUND
    feature = (LOG_SCALE_BOUND * torch.atanh(wanted / LOG_SCALE_BOUND)).requires_grad_()
    made = soft_bound(feature, LOG_SCALE_BOUND)
    torch.testing.assert_close(made, wanted)
    (slope,) = torch.autograd.grad(made.sum(), feature)
    torch.testing.assert_close(slope, 1 - (wanted / LOG_SCALE_BOUND).square())
    assert slope.min() > 0.01


def test_how_far_the_bound_moves_log_sigma() -> None:
    """By 0.09 at a feature of 3, where its slope is 0.92; the slope is 1 to a thousandth up to 0.31 only."""
    feature = torch.linspace(-3, 3, 601).double().requires_grad_()
    made = soft_bound(feature, LOG_SCALE_BOUND)
    (slope,) = torch.autograd.grad(made.sum(), feature)
    assert (made - feature).abs().max().item() == pytest.approx(3 - 10 * math.tanh(0.3))
    assert 0.08 < (made - feature).abs().max() < 0.09
    assert slope.min().item() == pytest.approx(1 - math.tanh(0.3) ** 2)
    assert (slope[feature.abs() <= 0.31] > 1 - 1e-3).all()


@pytest.mark.parametrize("log_sigma", [-4.0, -1.0, 0.0, 1.0])
def test_the_bound_biases_no_optimum(log_sigma: float) -> None:
    """The KL to the optimal posterior of a Gaussian, N(0, exp(2 log sigma)), is minimised exactly, bound or not.

    tests/models/test_linear.py has the same for whole models, against the exact likelihood of probabilistic PCA.
    """
    head = DiagonalNormalPosterior((1,), 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    target = torch.distributions.Normal(torch.zeros(1), torch.full((1,), math.exp(log_sigma)))

    def loss() -> Tensor:
        optimizer.zero_grad()
        q = head(torch.ones(1, 1))
        kl = torch.distributions.kl_divergence(q.base_dist, target).sum()
        kl.backward()
        return kl

    optimizer.step(loss)
    assert head(torch.ones(1, 1)).log_scale.item() == pytest.approx(log_sigma, abs=1e-3)
    assert loss().item() == pytest.approx(0, abs=1e-6)
