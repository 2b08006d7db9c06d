"""Free bits, a KL without cost below a threshold, and capacity, a KL that is held at a target.

Shapes: S Monte Carlo samples, B batch, J parts of the latents. In nats.
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
from nelbo.trace import Latent, Trace


class FreeBits(NegativeELBO):
    """The negative ELBO with free bits, a lower limit on the cost of each KL; `objective=free_bits`.

    E_q[-log p(x|z)] + beta sum_j max(free_bits, KL_j), in nats: Kingma et al. 2016, eq. 15, appendix C.8. KL_j is the
    KL of part j of the latents of all levels, averaged over the batch of all processes. Below the threshold the cost
    is constant, so that its gradient does not push the part towards collapse. 0 is the plain ELBO.

    The parts differ where latents are maps (C, h, w) or there are several levels:

    - "unit": every element of z; in a map the same channel at another place is another unit.
    - "channel": the channels of a map, whose KL is summed over space, as the paper does in convolutional models; the
      elements of a vector; the variables of a one-hot code.
    - "level": all latents of a level together.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        free_bits: threshold in nats for a unit, a channel or a level, at least 0: a number or a schedule.
        per: "unit", "channel" or "level".
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or `per` is unknown.
    """

    name: ClassVar[str] = "free_bits"
    sums_over_classes = weighs_examples = False
    weighs_each_image = False  # its minimum of a unit's KL is that of the mean over images
    is_mean_over_images = False

    def __init__(self, *, beta: float | Schedule, free_bits: float | Schedule, per: str, num_samples: int) -> None:
        super().__init__(beta=beta, num_samples=num_samples)
        self.free_bits = as_schedule("free_bits", free_bits, minimum=0)
        self.per = choice("per", per, ["unit", "channel", "level"])

    def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Return the sum of the KLs in nats, a scalar, each raised to the threshold if it is below."""
        free = self.free_bits(step) or -math.inf  # 0 is no threshold, also for a noisy KL estimate below 0
        kls = torch.cat([self.parts(latent) for latent in trace.latents])
        return trace.shares.mean(kls).clamp_min(free).sum()

    def parts(self, latent: Latent) -> Tensor:
        """Return the KLs of a level that have a threshold each, (J,), in nats, averaged over samples and examples.

        Raises:
            NotImplementedError: if they are those of units or channels, and these have no KL in closed form.
        """
        if self.per == "level":
            return latent.kl.mean().unsqueeze(0)
        kls = latent.element_kl if self.per == "unit" else latent.unit_kl
        return kls.mean(dim=0).flatten()

    def check(self, trace: Trace) -> None:
        """Check that the KLs that the threshold applies to exist.

        Raises:
            ConfigError: for deterministic or quantised latents, and with `per` = "unit" or "channel" if the KL does not
                split into units.
        """
        super().check(trace)
        self.require_soft_codes(trace)
        try:
            _ = [self.parts(latent) for latent in trace.latents]
        except NotImplementedError:
            hint = "use objective.per=level, or posterior and prior of independent units with a KL in closed form"
            raise self.refuse(f"the KL of these units has no closed form per unit; {hint}") from None


class Capacity(Objective):
    """The reconstruction plus the distance of the KL from a capacity C that rises in training; `objective=capacity`.

    E_q[-log p(x|z)] + gamma |KL(q(z|x) || p(z)) - C|, in nats: Burgess et al. 2018, eq. 8. C = 0 and gamma = 1 give
    the negative ELBO if the KL has a closed form; a Monte Carlo estimate below 0 would change its sign. With several
    levels of latents the KL is the sum of theirs.

    Args:
        gamma: weight of the distance, at least 0: a number or a schedule.
        capacity: C in nats, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "capacity"
    is_mean_over_images = False

    def __init__(self, *, gamma: float | Schedule, capacity: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.gamma = as_schedule("gamma", gamma, minimum=0)
        self.capacity = as_schedule("capacity", capacity, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`.

        The KL is averaged over the batch of all processes before it is compared with C.
        """
        terms, gamma, capacity = elbo_terms(trace), self.gamma(step), self.capacity(step)
        total = terms.reconstruction.mean() + gamma * (trace.shares.mean(terms.kl.mean()) - capacity).abs()
        return Loss(total, {**terms.logged, "gamma": gamma, "capacity": capacity})

    def check(self, trace: Trace) -> None:
        """Check that the model has a KL that depends on q(z|x).

        Raises:
            ConfigError: for deterministic and for quantised latents.
        """
        self.require_kl(trace)
        self.require_soft_codes(trace)
