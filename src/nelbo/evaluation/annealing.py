"""Estimates of log p(x) by annealed importance sampling, and bounds from both sides on simulated images.

Shapes: S chains, B images, D latent dimensions, T steps of the temperature, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.evaluation.hmc import evaluator, latents, prior_positions, transition
from nelbo.models import Model
from nelbo.numerics.precision import finest

STEEPNESS = 4.0
"""Steepness of the sigmoid schedule, delta in Wu et al. 2017."""

STARTING_STEP = 0.1
"""Step size at which the adaptation starts."""

TARGET_ACCEPTANCE = 0.65
"""Optimal acceptance rate of HMC in many dimensions (Neal 2011), and the target of Wu et al. 2017."""

ADAPTATION_RATE = 0.2
"""Change of the log step size per unit of difference between the acceptance rate and its target."""


@dataclass(frozen=True, eq=False)
class Annealed:
    """The weights of annealed chains.

    Args:
        log_weights: (S, B), in nats, in float64.
        acceptance: acceptance probability of a proposal, averaged over chains and temperatures, (B,).
    """

    log_weights: Tensor
    acceptance: Tensor


def sigmoid_schedule(num_temperatures: int) -> list[float]:
    """Return beta_0 = 0 < ... < beta_T = 1 along a sigmoid, closest to each other at both ends (Wu et al. 2017)."""
    raw = torch.sigmoid(STEEPNESS * torch.linspace(-1, 1, num_temperatures + 1, dtype=torch.float64))
    betas: list[float] = ((raw - raw[0]) / (raw[-1] - raw[0])).tolist()
    return betas


@torch.no_grad()
def adapt_step_sizes(
    model: Model, x: Tensor, betas: Sequence[float], *, num_chains: int, num_leapfrog_steps: int
) -> Tensor:
    """Return a step size for each image at beta_1 ... beta_{T-1}, (T - 1, B), for an acceptance rate of about 0.65.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        betas: inverse temperatures, from 0 to 1.
        num_chains: chains that are annealed for this purpose only.
        num_leapfrog_steps: leapfrog steps of a proposal.
    """
    # If step sizes were adapted on the chains that are weighted, they would depend on the positions of these chains, so
    # a transition would not leave p(z) p(x|z)^beta invariant, and E[w] would not be p(x). Hence separate chains.
    evaluate = evaluator(model, x)
    state = evaluate(prior_positions(model, num_chains, len(x)))
    log_steps = state.z.new_full((len(x),), math.log(STARTING_STEP))
    step_sizes = []
    for beta in betas[1:-1]:
        state, acceptance = transition(state, evaluate, beta, log_steps.exp(), num_leapfrog_steps)
        log_steps = log_steps + ADAPTATION_RATE * (acceptance.mean(dim=0) - TARGET_ACCEPTANCE)
        step_sizes.append(log_steps.exp())
    return torch.stack(step_sizes) if step_sizes else log_steps.new_empty(0, len(x))


@torch.no_grad()
def anneal(
    model: Model,
    x: Tensor,
    betas: Sequence[float],
    step_sizes: Tensor,
    *,
    num_chains: int,
    num_leapfrog_steps: int,
    exact: Tensor | None = None,
) -> Annealed:
    """Anneal chains from p(z) to p(z|x) through p(z) p(x|z)^beta, or back, and return their weights.

    Forward (Neal 2001, section 2), log w = sum over t of (beta_t - beta_{t-1}) log p(x|z_{t-1}), where z_0 ~ p(z), and
    z_t follows from z_{t-1} by Hamiltonian Monte Carlo at beta_t. E[w] = p(x), so the log of the mean weight is in
    expectation a lower bound of log p(x).

    Backward, if `exact` is given, the chains start from it and make the same steps in reverse. Then E[1/w] = 1/p(x),
    and minus the log of the mean of 1/w is in expectation an upper bound (Grosse et al. 2015).

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        betas: inverse temperatures, from 0 to 1.
        step_sizes: at beta_1 ... beta_{T-1}, (T - 1, B), which must not depend on these chains.
        num_chains: S.
        num_leapfrog_steps: leapfrog steps of a proposal.
        exact: the positions from which x was sampled, (B, D), which are exact samples of p(z|x).
    """
    evaluate = evaluator(model, x)
    start = prior_positions(model, num_chains, len(x)) if exact is None else exact
    state = evaluate(start.expand(num_chains, *start.shape[-2:]))
    steps = range(1, len(betas)) if exact is None else range(len(betas) - 1, 0, -1)
    log_weights = finest(torch.zeros_like(state.log_likelihood))
    acceptance = torch.zeros_like(log_weights)
    for number in steps:
        log_weights += (betas[number] - betas[number - 1]) * finest(state.log_likelihood)
        # The next weight needs a state at beta_t in the forward direction, and at beta_{t-1} in the backward direction.
        following = number if exact is None else number - 1
        if 0 < following < len(betas) - 1:
            state, accepted = transition(
                state, evaluate, betas[following], step_sizes[following - 1], num_leapfrog_steps
            )
            acceptance += accepted
    return Annealed(log_weights, acceptance.mean(dim=0) / max(1, len(betas) - 2))


def lower_bound(log_weights: Tensor) -> Tensor:
    """Return the log of the mean weight of forward chains (S, B): (B,), in expectation at most log p(x), in nats."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def upper_bound(log_weights: Tensor) -> Tensor:
    """Return minus the log of the mean of 1/w of backward chains (S, B): (B,), in expectation at least log p(x)."""
    return -lower_bound(-log_weights)


@torch.no_grad()
def simulate(model: Model, count: int) -> tuple[Tensor, Tensor]:
    """Sample pairs of positions z ~ p(z), (B, D), and x ~ p(x|z), (B, C, H, W): each z is an exact sample of p(z|x).

    Images at the edge of the support, where the log-density is not finite in floating point, are dropped. This depends
    on x alone, so the other z are still exact samples.
    """
    z = prior_positions(model, count)
    px = model.decode(*latents(model, z))
    x = px.sample()
    finite = px.log_prob(x).isfinite()
    return z[finite], x[finite]
