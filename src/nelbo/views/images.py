"""The images of a split, for evaluation and pictures.

Shapes: N images of a split, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Images(Protocol):
    """The images of a split, preprocessed as for the model."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor) -> Tensor:
        """Return the images at `positions` (B,): (B, C, H, W) in [0, 1]."""

    def context(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what is known under `names` of the examples at `positions` (B,), (B, ...) each, by name."""

    @property
    def labels(self) -> Tensor:
        """All labels, (N,); -1 for an image without a label."""


def evenly_spaced(total: int, limit: int | None) -> Tensor:
    """Return at most `limit` positions out of `total`, evenly spaced, because data sets are often sorted.

    Args:
        total: number of positions to choose from.
        limit: largest number of positions; None for all.

    Example:
        >>> evenly_spaced(10, 4).tolist()
        [0, 2, 5, 7]
    """
    if limit is None or limit >= total:
        return torch.arange(total)
    return torch.arange(limit) * total // limit
