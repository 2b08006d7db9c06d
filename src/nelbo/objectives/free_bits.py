"""A KL that is not paid for below a threshold, and one that is held at a value.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. In nats.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from nelbo.errors import choice
from nelbo.objectives.elbo import NegativeELBO
from nelbo.objectives.objective import Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace


class FreeBits(NegativeELBO):
    """E_q[-log p(x|z)] + beta sum over j of max(free_bits, KL_j), Kingma et al. 2016, eq. 15, appendix C.8.

    KL_j is the mean over the batch (of all processes) of the KL of unit j, or of all units of a level together. Below
    the threshold a unit costs the same whatever it says, so nothing pushes it to say nothing. 0 is the plain ELBO.

    Args:
        beta: the weight of the KL, at least 0: a number or a schedule.
        free_bits: the threshold in nats, of a unit or of a level, at least 0: a number or a schedule.
        per: unit or level.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range, or another word.
    """

    name: ClassVar[str] = "free_bits"

    def __init__(self, *, beta: float | Schedule, free_bits: float | Schedule, per: str, num_samples: int) -> None:
        super().__init__(beta=beta, num_samples=num_samples)
        self.free_bits = as_schedule("free_bits", free_bits, minimum=0)
        self.per = choice("per", per, ["unit", "level"])

    def rate(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """The KL, with what lies below the threshold lifted to it."""
        free = self.free_bits(step) or -math.inf  # 0 is no threshold, also to an estimate that noise takes below 0
        if self.per == "level":
            kls = torch.stack([latent.kl.mean() for latent in trace.latents])
        else:
            kls = torch.cat([latent.unit_kl.mean(dim=0) for latent in trace.latents])
        return trace.shares.mean(kls).clamp_min(free).sum()

    def check(self, trace: Trace) -> None:
        """Units need KLs of their own.

        Raises:
            ConfigError: for a deterministic code, or units that have a KL only together.
        """
        super().check(trace)
        self.require_soft_codes(trace)
        if self.per == "unit":
            try:
                _ = [latent.unit_kl for latent in trace.latents]
            except NotImplementedError:
                hint = "use objective.per=level, or a posterior and a prior with independent units and a closed KL"
                raise self.refuse(f"these units have no KLs of their own: {hint}") from None


class Capacity(Objective):
    """E_q[-log p(x|z)] + gamma |KL(q(z|x) || p(z)) - C|, C raised while training; Burgess et al. 2018, eq. 8.

    C = 0 and gamma = 1 are the plain ELBO where the KL has a closed form; an estimate below 0 would be turned over.

    Args:
        gamma: the weight of the distance, at least 0: a number or a schedule.
        capacity: C in nats, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range.
    """

    name: ClassVar[str] = "capacity"

    def __init__(self, *, gamma: float | Schedule, capacity: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.gamma = as_schedule("gamma", gamma, minimum=0)
        self.capacity = as_schedule("capacity", capacity, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`; the KL is its mean over the batch (of all processes) before it is compared with C."""
        reconstruction, kl, terms = elbo_terms(trace)
        gamma, capacity = self.gamma(step), self.capacity(step)
        total = reconstruction + gamma * (trace.shares.mean(kl) - capacity).abs()
        return Loss(total, {**terms, "gamma": gamma, "capacity": capacity})

    def check(self, trace: Trace) -> None:
        """It holds a KL, so there must be one that q can change.

        Raises:
            ConfigError: for a deterministic code, and for one that is rounded.
        """
        self.require_kl(trace)
        self.require_soft_codes(trace)
