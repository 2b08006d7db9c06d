"""A user's own part of a model."""

from __future__ import annotations

from collections.abc import Sequence

from nelbo.nets import MLP

__all__ = ["Wide"]


class Wide(MLP):
    """A network of one wide layer."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None, *, width: int) -> None:
        super().__init__(in_shape, shape, hidden=[width], activation="ReLU")
