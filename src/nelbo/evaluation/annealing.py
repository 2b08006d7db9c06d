"""log p(x) by annealed importance sampling, and the two-sided check of it on simulated images.

Shapes: S chains, B images, D latent dimensions, T steps of the temperature, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.evaluation.hmc import evaluator, transition
from nelbo.models import VAE
from nelbo.numerics.precision import finest

STEEPNESS = 4.0
"""Of the sigmoid schedule: delta of Wu et al. 2017."""

STARTING_STEP = 0.1
TARGET_ACCEPTANCE = 0.65
"""The best for HMC in many dimensions (Neal 2011), and what Wu et al. 2017 aim at."""

ADAPTATION_RATE = 0.2
"""What log step size moves by, for each unit by which the acceptance is off the target."""


@dataclass(frozen=True, eq=False)
class Annealed:
    """What annealed chains came to.

    Args:
        log_weights: (S, B), in float64, in nats.
        acceptance: share of proposals accepted, in expectation: (B,), over all chains and temperatures.
    """

    log_weights: Tensor
    acceptance: Tensor


def sigmoid_schedule(num_temperatures: int) -> list[float]:
    """beta_0 = 0 < ... < beta_T = 1, spaced as a sigmoid: closest at both ends (Wu et al. 2017)."""
    raw = torch.sigmoid(STEEPNESS * torch.linspace(-1, 1, num_temperatures + 1, dtype=torch.float64))
    betas: list[float] = ((raw - raw[0]) / (raw[-1] - raw[0])).tolist()
    return betas


@torch.no_grad()
def adapt_step_sizes(
    model: VAE, x: Tensor, betas: Sequence[float], *, num_chains: int, num_leapfrog_steps: int
) -> Tensor:
    """A step size for each image at beta_1 ... beta_{T-1}, (T - 1, B), at which about 0.65 of proposals are accepted.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        betas: of the temperatures, 0 to 1.
        num_chains: chains that are annealed to find them, and then thrown away.
        num_leapfrog_steps: L.
    """
    # A step size that follows the very chains that are weighted depends on where they are, and a kernel chosen by where
    # its chain is does not leave p(z) p(x|z)^beta invariant: E[w] would not be p(x). What other chains found is fixed.
    evaluate = evaluator(model, x)
    state = evaluate(model.prior(model.encode).sample(torch.Size((num_chains, len(x)))))
    log_steps = state.z.new_full((len(x),), math.log(STARTING_STEP))
    found = []
    for beta in betas[1:-1]:
        state, acceptance = transition(state, evaluate, beta, log_steps.exp(), num_leapfrog_steps)
        log_steps = log_steps + ADAPTATION_RATE * (acceptance.mean(dim=0) - TARGET_ACCEPTANCE)
        found.append(log_steps.exp())
    return torch.stack(found) if found else log_steps.new_empty(0, len(x))


@torch.no_grad()
def anneal(
    model: VAE,
    x: Tensor,
    betas: Sequence[float],
    step_sizes: Tensor,
    *,
    num_chains: int,
    num_leapfrog_steps: int,
    exact: Tensor | None = None,
) -> Annealed:
    """Chains from p(z) to p(z|x) by way of p(z) p(x|z)^beta, and their weights (Neal 2001, section 2), or back again.

    log w = sum over t of (beta_t - beta_{t-1}) log p(x|z_{t-1}), where z_0 ~ p(z) and z_t comes from z_{t-1} by
    Hamiltonian Monte Carlo at beta_t. E[w] = p(x), so the log of the mean weight is in expectation a lower bound of
    log p(x). Where `exact` is given, the chains start at it and go through the same steps backwards: then E[1/w] =
    1/p(x), and minus the log of the mean of 1/w is an upper bound (Grosse et al. 2015).

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
        betas: of the temperatures, 0 to 1.
        step_sizes: at beta_1 ... beta_{T-1}, (T - 1, B), from elsewhere than these chains.
        num_chains: S.
        num_leapfrog_steps: L.
        exact: z that x was sampled from, (B, D): exact samples of p(z|x).
    """
    evaluate = evaluator(model, x)
    start = model.prior(model.encode).sample(torch.Size((num_chains, len(x)))) if exact is None else exact
    state = evaluate(start.expand(num_chains, *start.shape[-2:]))
    steps = range(1, len(betas)) if exact is None else range(len(betas) - 1, 0, -1)
    log_weights = finest(torch.zeros_like(state.log_likelihood))
    acceptance = torch.zeros_like(log_weights)
    for number in steps:
        log_weights += (betas[number] - betas[number - 1]) * finest(state.log_likelihood)
        # The state that is weighted next: at beta_t on the way forward, at beta_{t-1} on the way back.
        following = number if exact is None else number - 1
        if 0 < following < len(betas) - 1:
            state, accepted = transition(
                state, evaluate, betas[following], step_sizes[following - 1], num_leapfrog_steps
            )
            acceptance += accepted
    return Annealed(log_weights, acceptance.mean(dim=0) / max(1, len(betas) - 2))


def lower_bound(log_weights: Tensor) -> Tensor:
    """Log of the mean weight of chains that went forward (S, B): (B,), in expectation at most log p(x)."""
    return log_weights.logsumexp(dim=0) - math.log(len(log_weights))


def upper_bound(log_weights: Tensor) -> Tensor:
    """Minus log of the mean of 1/w of chains that went back (S, B): (B,), in expectation at least log p(x)."""
    return -lower_bound(-log_weights)


@torch.no_grad()
def simulate(model: VAE, count: int) -> tuple[Tensor, Tensor]:
    """Pairs z ~ p(z), (B, D), and images x ~ p(x|z), (B, C, H, W): each z is an exact sample of p(z|x).

    Images at the very edge of the support, where a density has no finite logarithm in floats, are left out: that
    depends on x alone, so the rest are still such pairs.
    """
    z = model.prior(model.encode).sample(torch.Size((count,)))
    px = model.decode(z)
    x = px.sample()
    finite = px.log_prob(x).isfinite()
    return z[finite], x[finite]
