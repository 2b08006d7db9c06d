"""How much of what discrete codes could say is in use.

Shapes: B batch, N variables of K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import Quantized
from nelbo.metrics.base import TraceMetric
from nelbo.trace import Trace


class CodePerplexity(TraceMetric):
    """exp of the entropy of the classes' shares in the mean of q(z|x) over the examples: from 1 to K classes in use.

    Over all positions together where they share a codebook (van den Oord et al. 2017); of variables with classes of
    their own, the mean over variables. Of one level.

    Args:
        trace: one like those to come, for the numbers of variables and classes.
    """

    shares: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_sum("shares", tuple(shares(trace).shape))

    @staticmethod
    def applies(trace: Trace) -> bool:
        """One level, of one-hot codes."""
        return len(trace.latents) == 1 and not trace.latents[0].is_continuous

    def update(self, trace: Trace) -> None:
        """Count the examples of a trace."""
        self.shares += shares(trace)

    def compute(self) -> Tensor:
        """The perplexity."""
        share = self.shares / self.shares.sum(-1, keepdim=True)
        entropy: Tensor = torch.special.entr(share).sum(-1)
        return entropy.exp().mean()


def shares(trace: Trace) -> Tensor:
    """The classes' probabilities summed over the examples, (N, K), or (1, K) of one codebook."""
    (latent,) = trace.latents
    summed = latent.over_examples(latent.q.mean.detach(), 2).sum(dim=0)
    return summed.sum(dim=0, keepdim=True) if isinstance(latent.q, Quantized) else summed
