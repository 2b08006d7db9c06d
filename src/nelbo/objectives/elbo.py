"""The evidence lower bound, and what is left of it without a density.

Shapes: S Monte Carlo samples, B batch. In nats, summed over pixels and latents, averaged over S and B at the end.
"""

from __future__ import annotations

from nelbo.distributions import StandardNormal
from nelbo.errors import ConfigError
from nelbo.objectives.objective import Loss, Objective
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

    def __init__(self, *, beta: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.beta = as_schedule("beta", beta, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, kl, beta = -trace.log_px.mean(), trace.kl.mean(), self.beta(step)
        terms = {"nelbo": (reconstruction + kl).detach(), "reconstruction": reconstruction.detach(), "kl": kl.detach()}
        return Loss(reconstruction + beta * kl, {**terms, "beta": beta})

    def check(self, trace: Trace) -> None:
        """An ELBO needs log q(z|x).

        Raises:
            ConfigError: for a deterministic code.
        """
        if not trace.has_density:
            mend = (
                "posterior=deterministic has no log q(z|x): use objective=reconstruction, or posterior=diagonal_normal"
            )
            raise ConfigError("objective", "elbo", mend, located=True)


class Reconstruction(Objective):
    """E_q[-log p(x|z)] alone: the loss of a plain autoencoder. It bounds no likelihood.

    Args:
        num_samples: S.

    Raises:
        ConfigError: for a bad `num_samples`.
    """

    def __init__(self, *, num_samples: int) -> None:
        super().__init__(num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss, the same at every step."""
        reconstruction = -trace.log_px.mean()
        return Loss(reconstruction, {"reconstruction": reconstruction.detach()})

    def check(self, trace: Trace) -> None:
        """Nothing here would train a prior.

        Raises:
            ConfigError: for a prior with parameters.
        """
        if not all(isinstance(latent.p, StandardNormal) for latent in trace.latents):
            mend = "has no KL, so nothing would train the prior: use prior=standard_normal, or objective=elbo"
            raise ConfigError("objective", "reconstruction", mend, located=True)
