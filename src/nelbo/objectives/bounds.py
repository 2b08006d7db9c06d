"""Bounds on log p(x) of several samples, tighter than the ELBO.

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
    """Log of the mean of w over the first dimension, of log w (S, ...)."""
    return log_weight.logsumexp(dim=0) - math.log(len(log_weight))


class IWAE(Objective):
    """-log 1/S sum over i of w_i, Burda et al. 2016, eq. 8: in expectation at least -log p(x), equal to it as S grows.

    S = 1 is the Monte Carlo ELBO. The term `nelbo` is the negative ELBO of the same samples.

    Args:
        num_samples: S.

    Raises:
        ConfigError: for a bad `num_samples`.
    """

    name: ClassVar[str] = "iwae"

    def __init__(self, *, num_samples: int) -> None:
        super().__init__(num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss, the same at every step."""
        bound = self.bound(trace).mean()
        *_, terms = elbo_terms(trace)
        return Loss(-bound, {**terms, "negative_bound": -bound.detach()})

    def bound(self, trace: Trace) -> Tensor:
        """The bound on log p(x), (B,)."""
        return log_mean_exp(trace.log_weight)

    def check(self, trace: Trace) -> None:
        """Weights need log q(z|x).

        Raises:
            ConfigError: for a deterministic code, and for codes of classes.
        """
        self.require_weights(trace)


class MIWAE(IWAE):
    """The mean of M bounds of K samples each, Rainforth et al. 2018: a gradient for q with less noise.

    M = 1 is IWAE, M = S the ELBO.

    Args:
        num_samples: S = M K.
        groups: M, which divides S.

    Raises:
        ConfigError: for a number that is not positive and whole, or groups of different sizes.
    """

    name: ClassVar[str] = "miwae"

    def __init__(self, *, num_samples: int, groups: int) -> None:
        super().__init__(num_samples=num_samples)
        self.groups = positive_integer("groups", groups)
        if num_samples % groups:
            raise ConfigError("groups", groups, f"must divide num_samples={num_samples}")

    def grouped(self, log_weight: Tensor) -> Tensor:
        """Log w (S, B) as (K, M, B)."""
        grouped: Tensor = log_weight.unflatten(0, (-1, self.groups))
        return grouped

    def bound(self, trace: Trace) -> Tensor:
        """The bound on log p(x), (B,)."""
        return log_mean_exp(self.grouped(trace.log_weight)).mean(dim=0)


class CIWAE(IWAE):
    """elbo_share ELBO + (1 - elbo_share) IWAE, Rainforth et al. 2018, where the share is called beta.

    Args:
        num_samples: S.
        elbo_share: from 0, the IWAE, to 1, the ELBO.

    Raises:
        ConfigError: for a number out of range.
    """

    name: ClassVar[str] = "ciwae"

    def __init__(self, *, num_samples: int, elbo_share: float) -> None:
        super().__init__(num_samples=num_samples)
        self.elbo_share = number("elbo_share", elbo_share, minimum=0)
        if elbo_share > 1:
            raise ConfigError("elbo_share", elbo_share, "must be at most 1, the plain ELBO")

    def bound(self, trace: Trace) -> Tensor:
        """The bound on log p(x), (B,); the ELBO's KL in closed form where there is one."""
        elbo = (trace.log_px - trace.kl).mean(dim=0)
        return self.elbo_share * elbo + (1 - self.elbo_share) * super().bound(trace)
