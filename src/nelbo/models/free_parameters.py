"""The parameters of q(z|x) of each image, free of the encoder's weights.

Shapes: B batch, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import DiagonalNormal, FirstUnits, FullNormal

Free = tuple[list[Tensor], Callable[..., Distribution]]
"""Parameters of each image's q, (B, ...) each, and a function that builds q from them."""


@singledispatch
def free_parameters(q: Distribution, features: Tensor, head: Callable[[Tensor], Distribution]) -> Free:
    """Return the parameters of q(z|x) of each image, and a function to build q from them.

    For a family without an implementation here, such as a flow, whose layers all images share, the parameters are the
    features that the head makes q of. The family then contains every q that the head makes of any features.

    Args:
        q: the approximate posterior, batch shape (B,).
        features: what q was made of, (B, ...).
        head: makes q of features.
    """
    return [features], head


@free_parameters.register
def _(q: DiagonalNormal, features: Tensor, head: Callable[[Tensor], Distribution]) -> Free:
    rank = q.reinterpreted_batch_ndims

    def make(loc: Tensor, log_scale: Tensor) -> DiagonalNormal:
        return DiagonalNormal(loc, log_scale.exp(), log_scale, event_dimensions=rank)

    return [q.loc, q.log_scale], make


@free_parameters.register
def _(q: FullNormal, features: Tensor, head: Callable[[Tensor], Distribution]) -> Free:
    # L = diag(sigma) (I + U), as in FullNormalPosterior. The entries of L itself have very different scales, which
    # one learning rate does not suit.
    scale = q.scale_tril.diagonal(dim1=-2, dim2=-1)
    unit = torch.eye(scale.shape[-1], dtype=scale.dtype, device=scale.device)

    def make(loc: Tensor, log_scale: Tensor, below: Tensor) -> FullNormal:
        return FullNormal(loc, log_scale.exp().unsqueeze(-1) * (unit + below.tril(-1)))

    return [q.loc, scale.log(), (q.scale_tril / scale.unsqueeze(-1)).tril(-1)], make


@free_parameters.register(Independent)
def _(q: Independent[Distribution], features: Tensor, head: Callable[[Tensor], Distribution]) -> Free:
    base = q.base_dist.distribution if isinstance(q.base_dist, FirstUnits) else q.base_dist
    if not isinstance(base, Laplace):
        return free_parameters.dispatch(Distribution)(q, features, head)

    def make(loc: Tensor, log_scale: Tensor) -> Distribution:
        return Independent(Laplace(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)

    return [base.loc, base.scale.log()], make
