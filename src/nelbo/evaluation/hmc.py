"""Hamiltonian Monte Carlo on p(z) p(x|z)^beta, with all chains of all images in one batch (Neal 2011, section 3).

Shapes: S chains, B images, D latent dimensions, C H W image. All log-densities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from nelbo.models import Model


@dataclass(frozen=True, eq=False)
class State:
    """The positions of the chains, with log-densities and gradients.

    The prior and the likelihood are kept apart, so that changing beta needs no pass through the decoder.

    Args:
        z: positions, (S, B, D).
        log_prior: log p(z), (S, B).
        log_likelihood: log p(x|z), (S, B).
        prior_gradient: gradient of log p(z), (S, B, D).
        likelihood_gradient: gradient of log p(x|z), (S, B, D).
    """

    z: Tensor
    log_prior: Tensor
    log_likelihood: Tensor
    prior_gradient: Tensor
    likelihood_gradient: Tensor

    def log_density(self, beta: float) -> Tensor:
        """Return log p(z) + beta log p(x|z), (S, B)."""
        return self.log_prior + beta * self.log_likelihood

    def gradient(self, beta: float) -> Tensor:
        """Return the gradient of `log_density` with respect to z, (S, B, D)."""
        return self.prior_gradient + beta * self.likelihood_gradient

    def where(self, condition: Tensor, other: State) -> State:
        """Return this state for chains where `condition` (S, B) is true, and `other` for the rest."""
        mine, others = ([getattr(state, field.name) for field in fields(State)] for state in (self, other))
        chosen = (
            torch.where(condition if new.ndim == condition.ndim else condition.unsqueeze(-1), new, old)
            for new, old in zip(mine, others, strict=True)
        )
        return State(*chosen)


Evaluate = Callable[[Tensor], State]
"""A function from positions z (S, B, D) to their state."""


def split(model: Model, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return z of the top level, (..., *event), and the noise of the levels below, (..., N), of positions (..., D)."""
    top, noise = positions.split([math.prod(model.events[0]), model.noise_size], dim=-1)
    return top.unflatten(-1, model.events[0]), noise


def latents(model: Model, positions: Tensor) -> tuple[Tensor, ...]:
    """Return z of every level, top first, (..., *event) each, at positions (..., D)."""
    return model.unfold(*split(model, positions))


def prior_positions(model: Model, *shape: int) -> Tensor:
    """Return positions whose z are samples of p(z), (*shape, D)."""
    top: Tensor = model.top_prior().sample(torch.Size(shape)).flatten(len(shape))
    if not model.noise_size:
        return top
    return torch.cat([top, torch.randn(*shape, model.noise_size, dtype=top.dtype, device=top.device)], dim=-1)


@torch.no_grad()
def evaluator(model: Model, x: Tensor) -> Evaluate:
    """Return a function of z (S, B, D) that computes both parts of log p(x, z), and their gradients with respect to z.

    Args:
        model: in eval mode.
        x: images, (B, C, H, W) in [0, 1].
    """
    prior = model.top_prior()

    def evaluate(z: Tensor) -> State:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            top, noise = split(model, z)
            log_prior = prior.log_prob(top)
            if noise.shape[-1]:
                log_prior = log_prior - 0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1)
            log_likelihood = model.decode(*model.unfold(top, noise)).log_prob(x)
            (prior_gradient,) = torch.autograd.grad(log_prior.sum(), z)
            (likelihood_gradient,) = torch.autograd.grad(log_likelihood.sum(), z)
        return State(z.detach(), log_prior.detach(), log_likelihood.detach(), prior_gradient, likelihood_gradient)

    return evaluate


def leapfrog(
    state: State, momentum: Tensor, evaluate: Evaluate, beta: float, step_sizes: Tensor, num_steps: int
) -> tuple[State, Tensor]:
    """Make leapfrog steps with unit mass (Neal 2011, section 2.3) and return the new state and momentum.

    The steps preserve volume and are reversible: from the new state, with the momentum negated, they lead back.

    Args:
        state: state of the chains.
        momentum: (S, B, D).
        evaluate: computes the density.
        beta: power of the likelihood.
        step_sizes: (B,).
        num_steps: number of steps, at least 1.
    """
    step = step_sizes.unsqueeze(-1)
    for _ in range(num_steps):
        momentum = momentum + step / 2 * state.gradient(beta)
        state = evaluate(state.z + step * momentum)
        momentum = momentum + step / 2 * state.gradient(beta)
    return state, momentum


def transition(
    state: State, evaluate: Evaluate, beta: float, step_sizes: Tensor, num_steps: int
) -> tuple[State, Tensor]:
    """Make one step of Hamiltonian Monte Carlo; return the new state and the acceptance probability of each chain.

    The step draws new momenta and is reversible with respect to p(z) p(x|z)^beta. A proposal whose density or energy is
    not finite is rejected.

    Args:
        state: state of the chains.
        evaluate: computes the density.
        beta: power of the likelihood.
        step_sizes: (B,).
        num_steps: number of leapfrog steps.

    Returns:
        The new state, and the acceptance probabilities, (S, B).
    """
    momentum = torch.randn_like(state.z)
    proposal, end = leapfrog(state, momentum, evaluate, beta, step_sizes, num_steps)
    kinetic = 0.5 * (momentum.square() - end.square()).sum(-1)
    change = proposal.log_density(beta) - state.log_density(beta) + kinetic
    possible = proposal.log_density(beta).isfinite() & ~change.isnan()
    probability = torch.where(possible, change.clamp(max=0).exp(), 0)
    accepted = torch.rand_like(probability) < probability
    return proposal.where(accepted, state), probability
