"""Pixels that take one of L evenly spaced levels k / (L - 1) in [0, 1].

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from nelbo.distributions.pixels import EVENT_DIMENSIONS

TOLERANCE = 1e-3
"""How far from a level, in units of their distance, pixels may lie that 8 bits hold exactly."""


class Levels(constraints.Constraint):
    """Images whose pixels are k / (L - 1), k = 0 .. L - 1.

    Args:
        levels: L.
    """

    is_discrete = True
    event_dim = EVENT_DIMENSIONS

    def __init__(self, levels: int) -> None:
        self.levels = levels
        # Where 8 bits cannot hold the levels (17 of them, say), storing has rounded each by up to half of 1/255.
        self.tolerance = TOLERANCE + (0 if 255 % (levels - 1) == 0 else 0.5 * (levels - 1) / 255)

    def check(self, value: Tensor) -> Tensor:
        """Whether each image is such, (...)."""
        steps = value * (self.levels - 1)
        inside = (value >= 0) & (value <= 1) & ((steps - steps.round()).abs() < self.tolerance)
        return inside.flatten(-EVENT_DIMENSIONS).all(-1)


class LevelPixels(Distribution):
    """What all distributions over images of L levels share; subclasses say how probable each level is.

    Args:
        levels: L, at least 2.
        batch_shape: (...).
        event_shape: (C, H, W).
    """

    arg_constraints = {}

    def __init__(self, levels: int, batch_shape: torch.Size, event_shape: torch.Size) -> None:
        self.levels = levels
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def top(self) -> int:
        """The number of the highest level, L - 1."""
        return self.levels - 1

    @property
    def support(self) -> constraints.Constraint:
        """The levels."""
        return Levels(self.levels)

    def nearest(self, value: Tensor) -> Tensor:
        """The number of the level nearest to each pixel, 0 .. L - 1, as floats."""
        return (value.clamp(0, 1) * self.top).round()
