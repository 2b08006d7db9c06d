"""An autoregressive distribution over discrete codes.

Shapes: any sample shape, event (N, K): N variables of K classes each, one-hot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from nelbo.distributions.one_hot import check_one_hot, one_hot

Logits = Callable[[Tensor], Tensor]


class AutoregressiveOneHots(Distribution):
    """P(z) = prod_n P(z_n | z_1, ..., z_{n-1}), batch shape () (van den Oord et al. 2017, section 3.3).

    `log_prob` takes one pass of the network, `sample` takes N passes.

    Args:
        logits: a function from codes (M, N, K) to the logits of each variable, (M, N, K). The logits of variable n
            must depend only on variables before n.
        like: a tensor (N, K) with the size, device and dtype of a code.
        temperature: a number by which the logits are divided.
    """

    arg_constraints = {}
    support = constraints.independent(constraints.one_hot, 1)

    def __init__(self, logits: Logits, like: Tensor, temperature: float = 1.0) -> None:
        self.logits, self.like, self.temperature = logits, like, temperature
        super().__init__(torch.Size(), like.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(value), (...), in nats, of one-hot codes (..., N, K).

        Raises:
            ValueError: if the values are not one-hot, as relaxed samples are not.
        """
        check_one_hot(value)
        return self.log_prob_of_codes(value)

    def log_prob_of_codes(self, value: Tensor) -> Tensor:
        """Return the same for values that are known to be one-hot, or NaN, without reading them."""
        log_p = self._log_softmax(value.reshape(-1, *self.event_shape)).reshape(value.shape)
        return (value * log_p).sum((-2, -1))

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return one-hot codes, (*sample_shape, N, K)."""
        shape = torch.Size(sample_shape)
        z = self.like.new_zeros(shape.numel(), *self.event_shape)
        for n in range(self.event_shape[0]):
            chosen = torch.multinomial(self._log_softmax(z)[:, n].exp(), 1).squeeze(-1)
            z[:, n] = one_hot(chosen, self.event_shape[1], z)
        return z.reshape(*shape, *self.event_shape)

    def _log_softmax(self, z: Tensor) -> Tensor:
        return (self.logits(z).to(self.like.dtype) / self.temperature).log_softmax(-1)
