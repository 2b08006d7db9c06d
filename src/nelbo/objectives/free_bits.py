"""Free bits, a KL without cost below a threshold, and capacity, a KL that is held at a target.

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
    """The negative ELBO with free bits, a lower limit on the cost of each KL; `objective=free_bits`.

    E_q[-log p(x|z)] + beta sum_j max(free_bits, KL_j), in nats: Kingma et al. 2016, eq. 15, appendix C.8. KL_j is the
    KL of unit j, or of all units of a level together, averaged over the batch of all processes. Below the threshold
    the cost is constant, so that its gradient does not push the unit towards collapse. 0 is the plain ELBO.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        free_bits: threshold in nats for a unit or a level, at least 0: a number or a schedule.
        per: "unit" or "level".
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or `per` is unknown.
    """

    name: ClassVar[str] = "free_bits"

    def __init__(self, *, beta: float | Schedule, free_bits: float | Schedule, per: str, num_samples: int) -> None:
        super().__init__(beta=beta, num_samples=num_samples)
        self.free_bits = as_schedule("free_bits", free_bits, minimum=0)
        self.per = choice("per", per, ["unit", "level"])

    def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Return the sum of the KLs in nats, each raised to the threshold if it is below."""
        free = self.free_bits(step) or -math.inf  # 0 is no threshold, also for a noisy KL estimate below 0
        if self.per == "level":
            kls = torch.stack([latent.kl.mean() for latent in trace.latents])
        else:
            kls = torch.cat([latent.unit_kl.mean(dim=0) for latent in trace.latents])
        return trace.shares.mean(kls).clamp_min(free).sum()

    def check(self, trace: Trace) -> None:
        """Check that the KLs that the threshold applies to exist.

        Raises:
            ConfigError: for deterministic or quantised latents, and with `per` = "unit" if the KL does not split into
                units.
        """
        super().check(trace)
        self.require_soft_codes(trace)
        if self.per == "unit":
            try:
                _ = [latent.unit_kl for latent in trace.latents]
            except NotImplementedError:
                hint = "use objective.per=level, or posterior and prior of independent units with a KL in closed form"
                raise self.refuse(f"the KL of these units has no closed form per unit; {hint}") from None


class Capacity(Objective):
    """The reconstruction plus the distance of the KL from a capacity C that rises in training; `objective=capacity`.

    E_q[-log p(x|z)] + gamma |KL(q(z|x) || p(z)) - C|, in nats: Burgess et al. 2018, eq. 8. C = 0 and gamma = 1 give
    the negative ELBO if the KL has a closed form; a Monte Carlo estimate below 0 would change its sign.

    Args:
        gamma: weight of the distance, at least 0: a number or a schedule.
        capacity: C in nats, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "capacity"

    def __init__(self, *, gamma: float | Schedule, capacity: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.gamma = as_schedule("gamma", gamma, minimum=0)
        self.capacity = as_schedule("capacity", capacity, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`.

        The KL is averaged over the batch of all processes before it is compared with C.
        """
        reconstruction, kl, terms = elbo_terms(trace)
        gamma, capacity = self.gamma(step), self.capacity(step)
        total = reconstruction + gamma * (trace.shares.mean(kl) - capacity).abs()
        return Loss(total, {**terms, "gamma": gamma, "capacity": capacity})

    def check(self, trace: Trace) -> None:
        """Check that the model has a KL that depends on q(z|x).

        Raises:
            ConfigError: for deterministic and for quantised latents.
        """
        self.require_kl(trace)
        self.require_soft_codes(trace)
