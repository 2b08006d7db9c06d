"""The diagonal Gaussian, with its KL beside it.

Shapes: any batch shape, event (D,).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence, register_kl


class DiagonalNormal(Independent[Normal]):
    """N(loc, diag(scale^2)) over vectors; a class of its own so that KLs can be registered against it.

    Args:
        loc: mean, (..., D).
        scale: standard deviation, (..., D).
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(Normal(loc, scale, validate_args=False), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        """The mean, (..., D)."""
        loc: Tensor = self.base_dist.loc
        return loc

    @property
    def scale(self) -> Tensor:
        """The standard deviation, (..., D)."""
        scale: Tensor = self.base_dist.scale
        return scale

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> DiagonalNormal:
        """The same distribution with a larger batch shape."""
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.loc.expand(shape), self.scale.expand(shape))

    def kl_per_unit(self, other: DiagonalNormal) -> Tensor:
        """KL of each coordinate to that of `other`, (..., D), in nats (Kingma & Welling 2014, B)."""
        return kl_divergence(self.base_dist, other.base_dist)


@register_kl(DiagonalNormal, DiagonalNormal)  # type: ignore[untyped-decorator]
def _kl_diagonal_normal(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    return p.kl_per_unit(q).sum(-1)
