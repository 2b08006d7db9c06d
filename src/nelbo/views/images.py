"""The images of a split, as evaluation and pictures see them.

Shapes: N images of a split, B batch, C H W image.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """The images of a split, as the model sees them."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor) -> Tensor:
        """The images at `positions` (B,): (B, C, H, W) in [0, 1]."""

    @property
    def labels(self) -> Tensor:
        """All labels, (N,); -1 where there are none."""


def spread(total: int, limit: int | None) -> Tensor:
    """At most `limit` of `total` positions, evenly spread: sets are often sorted by difficulty."""
    if limit is None or limit >= total:
        return torch.arange(total)
    return torch.arange(limit) * total // limit
