"""Hamiltonian Monte Carlo against Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from nelbo.evaluation.hmc import Evaluate, State, evaluator, leapfrog, transition
from tests.helpers.factors import images, make_vae


def gaussian(scale: Tensor) -> Evaluate:
    """Return N(0, diag(scale^2)), half of which is prior and half is likelihood, at beta = 1."""

    def evaluate(z: Tensor) -> State:
        log_p, gradient = Normal(0, scale).log_prob(z).sum(-1) / 2, -z / scale.square() / 2
        return State(z, log_p, log_p, gradient, gradient)

    return evaluate


def test_leapfrog_steps_are_reversible() -> None:
    evaluate = evaluator(make_vae().double().eval(), images(count=4).double())
    start, momentum = evaluate(torch.randn(5, 4, 3).double()), torch.randn(5, 4, 3).double()
    step_sizes = torch.tensor([0.01, 0.02, 0.05, 0.1]).double()
    end, final = leapfrog(start, momentum, evaluate, 0.7, step_sizes, 10)
    assert (end.z - start.z).abs().min() > 1e-4
    back, reversed_momentum = leapfrog(end, -final, evaluate, 0.7, step_sizes, 10)
    torch.testing.assert_close(back.z, start.z)
    torch.testing.assert_close(-reversed_momentum, momentum)


def test_the_evaluator_returns_both_parts_of_log_joint_and_their_gradients() -> None:
    model, x = make_vae(prior="mixture").double().eval(), images(count=4).double()
    z = torch.randn(5, 4, 3).double().requires_grad_()
    state = evaluator(model, x)(z)
    joint = model.log_joint(x, [z])
    torch.testing.assert_close(state.log_density(1.0), joint)
    (gradient,) = torch.autograd.grad(joint.sum(), z)
    torch.testing.assert_close(state.gradient(1.0), gradient)
    assert all(parameter.grad is None for parameter in model.parameters()) and not state.log_prior.requires_grad


@pytest.mark.parametrize("step", [0.3, 1.2])
def test_transitions_leave_a_gaussian_invariant(step: float) -> None:
    """Chains that start from the target keep its moments, even if many proposals are rejected."""
    scale = torch.tensor([0.5, 1.0, 2.0]).double()
    evaluate = gaussian(scale)
    state = evaluate(scale * torch.randn(20_000, 2, 3).double())
    step_sizes = torch.tensor([step, step / 2]).double()
    for _ in range(5):
        state, probability = transition(state, evaluate, 1.0, step_sizes, 3)
    assert probability[:, 0].mean() < (0.99 if step == 0.3 else 0.5) and probability.mean() > 0.05
    z = state.z / scale
    error = 1 / math.sqrt(len(z))
    assert z.mean(dim=0).abs().max() < 4 * error
    assert (z.square().mean(dim=0) - 1).abs().max() < 4 * math.sqrt(2) * error


def test_transitions_converge_to_a_gaussian() -> None:
    scale = torch.tensor([0.5, 1.0, 2.0]).double()
    evaluate = gaussian(scale)
    state = evaluate(torch.full((20_000, 1, 3), 3.0).double())
    for _ in range(60):
        state, _ = transition(state, evaluate, 1.0, torch.tensor([0.4]).double(), 5)
    z = state.z[:, 0] / scale
    assert z.mean(dim=0).abs().max() < 4 / math.sqrt(len(z))
    assert (z.square().mean(dim=0) - 1).abs().max() < 4 * math.sqrt(2 / len(z))


def test_impossible_proposals_are_rejected() -> None:
    """The density is nan beyond 1 and 0 beyond 2: all chains stay where it is finite."""

    def evaluate(z: Tensor) -> State:
        distance = z.abs().amax(-1)
        log_p = torch.where(distance > 2, -math.inf, torch.where(distance > 1, math.nan, 0.0))
        return State(z, log_p, torch.zeros_like(log_p), torch.zeros_like(z), torch.zeros_like(z))

    state = evaluate(torch.zeros(500, 2, 3))
    for step in (0.5, 5.0, 1e30):
        for _ in range(5):
            state, probability = transition(state, evaluate, 0.5, torch.full((2,), step), 2)
            assert probability.isfinite().all()
    assert state.z.abs().max() <= 1 and state.z.abs().max() > 0.5 and state.log_density(0.5).eq(0).all()


def test_a_proposal_whose_density_is_infinite_is_rejected() -> None:
    """It would be accepted with certainty, and the chain could never leave it."""

    def evaluate(z: Tensor) -> State:
        log_p = torch.where((z == 0).all(-1), 0.0, math.inf)
        return State(z, log_p, torch.zeros_like(log_p), torch.zeros_like(z), torch.zeros_like(z))

    start = evaluate(torch.zeros(20, 2, 3))
    state, probability = transition(start, evaluate, 1.0, torch.tensor([0.1, 0.1]), 3)
    assert torch.equal(state.z, start.z) and probability.eq(0).all()
