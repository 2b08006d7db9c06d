"""The perplexity of discrete codes: the effective number of classes in use.

Shapes: B batch, N variables of K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import Quantized
from nelbo.metrics.base import TraceMetric
from nelbo.trace import Trace


class CodePerplexity(TraceMetric):
    """The perplexity of the classes, from 1 to K: the exponential of the entropy of the mean of q(z|x) over examples.

    Codes of one codebook (van den Oord et al. 2017) are counted over all positions together. For variables with
    separate classes the value is the mean of the variables' perplexities. Defined for one level of latents.

    Args:
        trace: an example of the traces to come, which sets the numbers of variables and classes.
    """

    shares: Tensor

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.add_sum("shares", tuple(class_totals(trace).shape))

    @staticmethod
    def applies(trace: Trace) -> bool:
        """Return whether the trace has one level of latents, made of one-hot codes."""
        return len(trace.latents) == 1 and not trace.latents[0].is_continuous

    def update(self, trace: Trace) -> None:
        """Accumulate the examples of a trace."""
        self.shares += class_totals(trace)

    def compute(self) -> Tensor:
        """Return the perplexity."""
        share = self.shares / self.shares.sum(-1, keepdim=True)
        entropy: Tensor = torch.special.entr(share).sum(-1)
        return entropy.exp().mean()


def class_totals(trace: Trace) -> Tensor:
    """Return the probabilities of the classes summed over the examples: (N, K), or (1, K) for a shared codebook."""
    (latent,) = trace.latents
    summed = latent.over_examples(latent.q.mean.detach(), 2).sum(dim=0)
    return summed.sum(dim=0, keepdim=True) if isinstance(latent.q, Quantized) else summed
