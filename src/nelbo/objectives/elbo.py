"""The evidence lower bound, and what is left of it without a density.

Shapes: S Monte Carlo samples, B batch. In nats, summed over pixels and latents, averaged over S and B at the end.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from nelbo.objectives.objective import NEEDS_VECTORS, Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace


class NegativeELBO(Objective):
    """E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)), Kingma & Welling 2014, eq. 3; beta from Higgins et al. 2017, eq. 4.

    beta = 1 is the exact negative ELBO. The term `nelbo` is always that, whatever beta is.

    Args:
        beta: the weight of the KL, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: for a weight that is no finite number of at least 0, or a bad `num_samples`.
    """

    name: ClassVar[str] = "elbo"

    def __init__(self, *, beta: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.beta = as_schedule("beta", beta, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, kl, terms = elbo_terms(trace)
        beta = self.beta(step)
        return Loss(reconstruction + beta * self.rate(trace, kl, step), {**terms, "beta": beta})

    def rate(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """What beta weighs: the KL, a scalar in nats, and what subclasses make of it."""
        return kl

    def check(self, trace: Trace) -> None:
        """An ELBO needs log q(z|x).

        Raises:
            ConfigError: for a deterministic code.
        """
        self.require_kl(trace)


class Reconstruction(Objective):
    """E_q[-log p(x|z)] alone: the loss of a plain autoencoder. It bounds no likelihood.

    Args:
        num_samples: S.

    Raises:
        ConfigError: for a bad `num_samples`.
    """

    name: ClassVar[str] = "reconstruction"

    def __init__(self, *, num_samples: int) -> None:
        super().__init__(num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss, the same at every step."""
        reconstruction = -trace.log_px.mean()
        return Loss(reconstruction, {"reconstruction": reconstruction.detach()})

    def check(self, trace: Trace) -> None:
        """Nothing here would train a prior.

        Raises:
            ConfigError: for a prior with parameters, and for one-hot codes.
        """
        if not all(latent.is_continuous for latent in trace.latents):
            raise self.refuse(NEEDS_VECTORS)
        self.require_standard_normal(trace, "has no KL, so nothing would train the prior")
