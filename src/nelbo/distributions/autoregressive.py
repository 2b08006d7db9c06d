"""Discrete codes whose variables depend on those before them.

Shapes: any sample shape, event (N, K): N variables with one of K classes each, one-hot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional

from nelbo.distributions.one_hot import refuse_relaxed

Logits = Callable[[Tensor], Tensor]


class AutoregressiveOneHots(Distribution):
    """P(z) = prod over n of P(z_n | z_1 .. z_n-1), batch shape () (van den Oord et al. 2017, section 3.3).

    A density takes one pass of the net, a sample N of them.

    Args:
        logits: codes (M, N, K) to the logits of each variable, (M, N, K), which do not depend on it or those after it.
        like: a tensor (N, K) whose size, device and type it takes.
        temperature: what the logits are divided by.
    """

    arg_constraints = {}
    support = constraints.independent(constraints.one_hot, 1)

    def __init__(self, logits: Logits, like: Tensor, temperature: float = 1.0) -> None:
        self.logits, self.like, self.temperature = logits, like, temperature
        super().__init__(torch.Size(), like.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log P(value), (...), in nats, of one-hot codes (..., N, K).

        Raises:
            ValueError: for values that are not one-hot, such as relaxed samples.
        """
        refuse_relaxed(value)
        log_p = self._log_softmax(value.reshape(-1, *self.event_shape)).reshape(value.shape)
        return (value * log_p).sum((-2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """One-hot codes, (*sample_shape, N, K)."""
        shape = torch.Size(sample_shape)
        z = self.like.new_zeros(shape.numel(), *self.event_shape)
        for n in range(self.event_shape[0]):
            chosen = torch.multinomial(self._log_softmax(z)[:, n].exp(), 1).squeeze(-1)
            z[:, n] = functional.one_hot(chosen, self.event_shape[1])
        return z.reshape(*shape, *self.event_shape)

    def _log_softmax(self, z: Tensor) -> Tensor:
        return (self.logits(z).to(self.like.dtype) / self.temperature).log_softmax(-1)
