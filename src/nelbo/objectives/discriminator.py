"""The total correlation as a discriminator sees it.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. In nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import softplus

from nelbo.errors import ConfigError, number, positive_integer
from nelbo.nets.base import widths
from nelbo.objectives.objective import NEEDS_VECTORS, Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace

SLOPE = 0.2
"""Of the discriminator's LeakyReLUs below 0."""


class FactorVAE(Objective):
    """The negative ELBO + gamma TC(z), TC(z) = KL(q(z) || prod_j q(z_j)), Kim & Mnih 2018, eq. 2.

    A discriminator tells codes from codes whose units are permuted over the batch (of all processes), each on its own
    (their Algorithm 1);
    its logit is log q(z) / prod_j q(z_j), whose mean is the TC (eq. 3). It is trained in the same step: the gradient of
    its cross-entropy is added to the loss, with no value and for nothing but its own parameters. Departures: what is
    permuted are the same codes, and no second batch; one logit instead of two, which is as much.

    Args:
        gamma: the weight of the total correlation, at least 0: a number or a schedule.
        latent_dim: D.
        hidden: widths of the discriminator's layers.
        discriminator_lr: its learning rate, which follows the run's scheduler.
        discriminator_betas: its betas of Adam.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range.
    """

    name: ClassVar[str] = "factor"
    least_batch: ClassVar[int] = 2

    def __init__(
        self,
        *,
        gamma: float | Schedule,
        latent_dim: int,
        hidden: Sequence[int],
        discriminator_lr: float,
        discriminator_betas: Sequence[float],
        num_samples: int,
    ) -> None:
        super().__init__(num_samples)
        self.gamma = as_schedule("gamma", gamma, minimum=0)
        self.discriminator_lr = number("discriminator_lr", discriminator_lr, positive=True)
        self.discriminator_betas = pair_of_betas("discriminator_betas", discriminator_betas)
        self.latent_dim = positive_integer("latent_dim", latent_dim)
        sizes = [latent_dim, *widths("hidden", hidden, at_least=1)]
        layers: list[nn.Module] = []
        for size, next_size in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(size, next_size), nn.LeakyReLU(SLOPE)]
        self.discriminator = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def optimizer_options(self) -> dict[str, Any]:
        """The discriminator's own."""
        return {"lr": self.discriminator_lr, "betas": self.discriminator_betas}

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, kl, terms = elbo_terms(trace)
        (latent,) = trace.latents
        gamma, z = self.gamma(step), latent.z.flatten(2)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        total_correlation = functional_call(self.discriminator, frozen, z).float().mean()

        codes = z.detach()
        shares, keys = trace.shares, torch.rand_like(codes)
        shuffled = shares.own(permute_units(shares.gather(codes, dim=1), shares.gather(keys, dim=1)), dim=1)
        own, permuted = (self.discriminator(each).float() for each in (codes, shuffled))
        cross_entropy = (softplus(-own).mean() + softplus(permuted).mean()) / 2
        total = reconstruction + kl + gamma * total_correlation + (cross_entropy - cross_entropy.detach())
        terms |= {"total_correlation": total_correlation.detach(), "discriminator": cross_entropy.detach()}
        return Loss(total, {**terms, "gamma": gamma})

    def check(self, trace: Trace) -> None:
        """Units of vectors are permuted.

        Raises:
            ConfigError: for a deterministic code, several levels, classes, or a discriminator of another D.
        """
        self.require_kl(trace)
        self.require_one_level(trace)
        (latent,) = trace.latents
        if not latent.is_continuous:
            raise self.refuse(NEEDS_VECTORS)
        if (units := latent.q.event_shape.numel()) != self.latent_dim:
            hint = f"must be the model's latent_dim, {units}"
            raise ConfigError("objective.latent_dim", self.latent_dim, hint, located=True)


def permute_units(z: Tensor, keys: Tensor | None = None) -> Tensor:
    """Codes (S, B, D) with each unit permuted over the batch, on its own: as draws of prod_j q(z_j).

    Args:
        z: the codes.
        keys: random numbers of the same shape, whose order is the permutation; None draws them.
    """
    keys = torch.rand_like(z) if keys is None else keys
    return z.gather(1, keys.argsort(dim=1))


def pair_of_betas(key: str, values: object) -> tuple[float, float]:
    """Two numbers of at least 0 and below 1, as Adam takes them.

    Raises:
        ConfigError: if they are not.
    """
    hint = "must be two numbers of at least 0 and below 1, such as [0.5,0.9]"
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 2:
        raise ConfigError(key, values, hint)
    first, second = (number(f"{key}[{index}]", value, minimum=0) for index, value in enumerate(values))
    if max(first, second) >= 1:
        raise ConfigError(key, list(values), hint)
    return first, second
