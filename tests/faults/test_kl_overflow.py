"""Extreme outputs of the encoder and extreme parameters: the loss is finite, or an error names the term."""

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
from tests.helpers.factors import LIKELIHOODS, PRIORS, images, make_vae
from tests.helpers.shipped import PAIRS

# Learned scales of densities, which are parameters and not outputs of a network.
SCALES = [
    (slot, name, scale)
    for slot, factors in (("likelihood", LIKELIHOODS), ("prior", PRIORS))
    for name in factors
    for scale, _ in getattr(make_vae(**{slot: name}), slot).named_parameters()
    if scale in ("log_sigma", "log_scale", "raw_concentration")
]


def step(model: VAE, x: Tensor, objective: str = "elbo") -> Failure:
    """Return which values of a training step are not finite."""
    loss_function = NegativeELBO(beta=1.0, num_samples=2) if objective == "elbo" else Reconstruction(num_samples=2)
    loss = loss_function(model.trace(x, 2), 0)
    loss.total.backward()
    return failure(loss.total.detach(), loss.terms, model)


def push_encoder(model: VAE, size: float) -> None:
    """Replace the features of images by +-size."""

    def push(module: nn.Module, given: object, features: Tensor) -> Tensor:
        signs = torch.randint(2, features.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return 0 * features + size * signs

    model.encoder.register_forward_hook(push)


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_kl_overflow(posterior: str, prior: str) -> None:
    """At 1e4 KL and gradients are finite; at 1e30 a KL that exceeds float32 (1e59 if it is a square) is named."""
    for size in (1e4, 1e30):
        model = make_vae(posterior=posterior, prior=prior)
        push_encoder(model, size)
        problem = step(model, images())
        if size == 1e4:
            assert not problem.is_of_loss, str(problem)
            if (posterior, prior) == ("flow_coupling", "vamp"):
                # The inverses of K affine flows, whose scales are those of pseudo-inputs, have gradients above float32.
                assert str(problem).startswith("the gradient norm of "), str(problem)
                continue
            # Some gradients through an autoregressive flow are finite, but their square is not: 1e20, at a KL of 1e19.
            assert all(part.grad.isfinite().all() for part in model.parameters() if part.grad is not None)
        else:
            assert not problem.not_finite or str(problem).startswith(("kl is ", "the gradient norm of ")), str(problem)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_kl_overflow_of_a_deterministic_code_is_an_overflow_of_the_reconstruction(likelihood: str) -> None:
    for size in (1e4, 1e30):
        model = make_vae(posterior="deterministic", likelihood=likelihood)
        push_encoder(model, size)
        problem = step(model, images(likelihood), "reconstruction")
        if size == 1e4:
            assert not problem.not_finite, str(problem)
        else:
            assert not problem.not_finite or str(problem).startswith(("reconstruction is ", "the gradient norm of "))


@pytest.mark.parametrize(("slot", "name", "scale"), SCALES)
@pytest.mark.parametrize("size", [-1e30, -1e4, -60.0, 60.0, 1e4, 1e30])
def test_kl_overflow_of_a_learned_scale(slot: str, name: str, scale: str, size: float) -> None:
    """Small scales have a floor. Large ones are not bounded, because an infinite sigma should be named, not hidden."""
    model = make_vae(**{slot: name})
    with torch.no_grad():
        getattr(getattr(model, slot), scale).fill_(size)
    problem = step(model, images(name if slot == "likelihood" else "gaussian"))
    term = {"likelihood": "reconstruction is ", "prior": "kl is "}[slot]
    if size < 0 or scale == "raw_concentration":
        assert not problem.not_finite, str(problem)
    else:
        assert not problem.not_finite or str(problem).startswith((term, "the gradient norm of ")), str(problem)


def test_kl_overflow_stops_a_run_and_is_named(tmp_path: Path) -> None:
    def push(module: VAEModule) -> None:
        push_encoder(module.model, 1e30)

    with pytest.raises(Diverged, match=r"at step 2 \(epoch 1, batch 3\): kl is inf"):
        Training(tmp_path, callbacks=(Poke(push, 2),)).fit()


def test_the_bound_of_log_sigma_excludes_no_value() -> None:
    """It is a change of variables: each log sigma within the bound is the image of one feature, with a gradient."""
    expected = torch.linspace(-0.99, 0.99, 199).double() * LOG_SCALE_BOUND
    feature = (LOG_SCALE_BOUND * torch.atanh(expected / LOG_SCALE_BOUND)).requires_grad_()
    log_sigma = soft_bound(feature, LOG_SCALE_BOUND)
    torch.testing.assert_close(log_sigma, expected)
    (slope,) = torch.autograd.grad(log_sigma.sum(), feature)
    torch.testing.assert_close(slope, 1 - (expected / LOG_SCALE_BOUND).square())
    assert slope.min() > 0.01


def test_the_bound_hardly_changes_small_log_sigmas() -> None:
    """At a feature of 3 it changes log sigma by 0.09 and has slope 0.92; up to 0.31 the slope is 1 within 0.001."""
    feature = torch.linspace(-3, 3, 601).double().requires_grad_()
    log_sigma = soft_bound(feature, LOG_SCALE_BOUND)
    (slope,) = torch.autograd.grad(log_sigma.sum(), feature)
    assert (log_sigma - feature).abs().max().item() == pytest.approx(3 - 10 * math.tanh(0.3))
    assert 0.08 < (log_sigma - feature).abs().max() < 0.09
    assert slope.min().item() == pytest.approx(1 - math.tanh(0.3) ** 2)
    assert (slope[feature.abs() <= 0.31] > 1 - 1e-3).all()


@pytest.mark.parametrize("log_sigma", [-4.0, -1.0, 0.0, 1.0])
def test_the_bound_does_not_bias_the_optimum(log_sigma: float) -> None:
    """The KL to a Gaussian posterior, N(0, exp(2 log sigma)), is minimised exactly with the bound.

    tests/models/test_linear.py tests whole models against the exact likelihood of probabilistic PCA.
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
