"""Traces of hand-made posteriors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from nelbo.distributions import DiagonalNormal
from nelbo.trace import Latent, Trace


def trace_of(q: Distribution, z: Tensor, p: Distribution | None = None) -> Trace:
    """Return a trace of a given q and codes.

    Args:
        q: q(z|x), batch shape (B,).
        z: samples, (S, B, *event).
        p: the prior, a standard normal if None.

    Its p(x|z) does not depend on z.
    """
    samples, batch = z.shape[:2]
    px = Independent(Normal(torch.zeros(samples, batch, 1, 1, 1), 1.0), 3)
    p = p or DiagonalNormal(torch.zeros_like(z[0, 0]), torch.ones_like(z[0, 0]))
    return Trace(torch.zeros(batch, 1, 1, 1), px, (Latent(q, p, z),))
