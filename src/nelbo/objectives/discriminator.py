"""FactorVAE: a penalty on the total correlation, estimated by a discriminator.

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
"""Negative slope of the discriminator's LeakyReLUs."""


class FactorVAE(Objective):
    """FactorVAE, the negative ELBO plus a weighted total correlation; `objective=factor`.

    E_q[-log p(x|z)] + KL(q(z|x) || p(z)) + gamma TC(z), TC(z) = KL(q(z) || prod_j q(z_j)), in nats: Kim & Mnih 2018,
    eq. 2. A discriminator distinguishes codes from codes whose units are permuted independently over the batch of all
    processes (their Algorithm 1). Its logit estimates log q(z) / prod_j q(z_j), whose mean is the TC (eq. 3).

    The discriminator is trained in the same step: its cross-entropy enters the loss with its gradient, which reaches
    only its own parameters, but not with its value. Differences from the paper: the permuted codes are those of the
    same batch instead of a second one, and the discriminator has one logit instead of two, which is equivalent.

    With several levels of latents the KL is that of all of them, z of the total correlation is the top level alone,
    and the terms of the discriminator are logged with its name.

    Args:
        gamma: weight of the total correlation, at least 0: a number or a schedule.
        latent_dim: D, the number of elements of z, or of its top level.
        hidden: widths of the discriminator's hidden layers.
        discriminator_lr: learning rate of the discriminator; it follows the run's scheduler.
        discriminator_betas: the discriminator's betas of Adam.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "factor"
    least_batch: ClassVar[int] = 2
    is_mean_over_images = False

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
        """Return the learning rate and the betas of the discriminator."""
        return {"lr": self.discriminator_lr, "betas": self.discriminator_betas}

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        terms, latent = elbo_terms(trace), trace.latents[0]
        gamma, z = self.gamma(step), latent.z.flatten(2)
        frozen = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        total_correlation = functional_call(self.discriminator, frozen, z).float().mean()

        codes = z.detach()
        shares, keys = trace.shares, torch.rand_like(codes)
        shuffled = shares.own(permute_units(shares.gather(codes, dim=1), shares.gather(keys, dim=1)), dim=1)
        joint_logits, permuted_logits = (self.discriminator(each).float() for each in (codes, shuffled))
        cross_entropy = (softplus(-joint_logits).mean() + softplus(permuted_logits).mean()) / 2
        total = terms.reconstruction.mean() + terms.kl.mean()
        total = total + gamma * total_correlation + (cross_entropy - cross_entropy.detach())
        estimates = {"total_correlation": total_correlation, "discriminator": cross_entropy}
        logged = {trace.at_top(name): estimate.detach() for name, estimate in estimates.items()}
        return Loss(total, {**terms.logged, **logged, "gamma": gamma})

    def check(self, trace: Trace) -> None:
        """Check that z of the top level are continuous units, as many as the discriminator has inputs.

        Raises:
            ConfigError: for deterministic latents, one-hot codes, or a discriminator for another D.
        """
        self.require_kl(trace)
        latent = trace.latents[0]
        if not latent.is_continuous:
            raise self.refuse(NEEDS_VECTORS)
        if (units := latent.q.event_shape.numel()) != self.latent_dim:
            what = "the model's latent_dim" if len(trace.latents) == 1 else "the number of elements of the top level"
            hint = f"must equal {what}, {units}"
            raise ConfigError("objective.latent_dim", self.latent_dim, hint, located=True)


def permute_units(z: Tensor, keys: Tensor | None = None) -> Tensor:
    """Permute each unit of the codes independently over the batch, which gives draws of prod_j q(z_j): (S, B, D).

    Args:
        z: the codes, (S, B, D).
        keys: random numbers of the same shape whose order defines the permutation; drawn if None.
    """
    keys = torch.rand_like(z) if keys is None else keys
    return z.gather(1, keys.argsort(dim=1))


def pair_of_betas(key: str, values: object) -> tuple[float, float]:
    """Return the two betas of Adam, each at least 0 and below 1.

    Raises:
        ConfigError: if `values` is anything else.
    """
    hint = "must be two numbers of at least 0 and below 1, such as [0.5,0.9]"
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 2:
        raise ConfigError(key, values, hint)
    first, second = (number(f"{key}[{index}]", value, minimum=0) for index, value in enumerate(values))
    if max(first, second) >= 1:
        raise ConfigError(key, list(values), hint)
    return first, second
