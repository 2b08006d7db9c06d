"""Multi-sample bounds on log p(x), which are tighter than the ELBO.

Shapes: S Monte Carlo samples, B batch, M groups of K samples each, S = M K. In nats, summed over pixels and latents,
averaged over B at the end. w_i = p(x, z_i) / q(z_i|x) are the importance weights.
"""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from nelbo.errors import ConfigError, number, positive_integer
from nelbo.objectives.objective import Loss, Objective, elbo_terms
from nelbo.trace import Trace


def log_mean_exp(log_weight: Tensor) -> Tensor:
    """Return the log of the mean of w over the first dimension.

    Args:
        log_weight: log w, (S, ...).
    """
    return log_weight.logsumexp(dim=0) - math.log(len(log_weight))


class IWAE(Objective):
    """The importance-weighted bound; `objective=iwae`.

    -log 1/S sum_i w_i, in nats: Burda et al. 2016, eq. 8. Its expectation is at least -log p(x) and converges to it as
    S grows. S = 1 is the Monte Carlo ELBO. The logged term `nelbo` is the negative ELBO of the same samples. If there
    are several levels of latents, w is p(x, z) / q(z|x) of all of them together.

    Args:
        num_samples: S.

    Raises:
        ConfigError: if `num_samples` is invalid.
    """

    name: ClassVar[str] = "iwae"
    weighs_examples = True

    def __init__(self, *, num_samples: int) -> None:
        super().__init__(num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss, which does not depend on `step`."""
        bound = trace.mean(self.bound(trace))
        return Loss(-bound, {**elbo_terms(trace).logged, "negative_bound": -bound.detach()})

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,)."""
        return log_mean_exp(trace.log_weight)

    def check(self, trace: Trace) -> None:
        """Check that the importance weights exist.

        Raises:
            ConfigError: for deterministic latents and for one-hot codes.
        """
        self.require_weights(trace)


class MIWAE(IWAE):
    """The mean of M importance-weighted bounds of K samples each; `objective=miwae`.

    -1/M sum_m log 1/K sum_k w_mk, in nats: Rainforth et al. 2018. The gradient for q is less noisy than that of IWAE.
    M = 1 is IWAE, M = S the Monte Carlo ELBO.

    Args:
        num_samples: S = M K.
        groups: M, a divisor of S.

    Raises:
        ConfigError: if a number is not a positive integer, or if `groups` does not divide `num_samples`.
    """

    name: ClassVar[str] = "miwae"

    def __init__(self, *, num_samples: int, groups: int) -> None:
        super().__init__(num_samples=num_samples)
        self.groups = positive_integer("groups", groups)
        if num_samples % groups:
            raise ConfigError("groups", groups, f"must divide num_samples={num_samples}")

    def grouped(self, log_weight: Tensor) -> Tensor:
        """Reshape log w from (S, B) to (K, M, B)."""
        grouped: Tensor = log_weight.unflatten(0, (-1, self.groups))
        return grouped

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,)."""
        return log_mean_exp(self.grouped(trace.log_weight)).mean(dim=0)


class CIWAE(IWAE):
    """A convex combination of the ELBO and the importance-weighted bound; `objective=ciwae`.

    -(elbo_share ELBO + (1 - elbo_share) IWAE), in nats: Rainforth et al. 2018, who call the share beta.

    Args:
        num_samples: S.
        elbo_share: weight of the ELBO, from 0 (IWAE) to 1 (ELBO).

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "ciwae"

    def __init__(self, *, num_samples: int, elbo_share: float) -> None:
        super().__init__(num_samples=num_samples)
        self.elbo_share = number("elbo_share", elbo_share, minimum=0)
        if elbo_share > 1:
            raise ConfigError("elbo_share", elbo_share, "must be at most 1, which is the ELBO")

    def bound(self, trace: Trace) -> Tensor:
        """Return the bound on log p(x) in nats, (B,); the KL of the ELBO is in closed form if there is one."""
        elbo = (trace.log_px - trace.kl).mean(dim=0)
        return self.elbo_share * elbo + (1 - self.elbo_share) * super().bound(trace)
