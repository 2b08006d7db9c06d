"""Pixels that take one of L evenly spaced levels k / (L - 1) in [0, 1].

Shapes: any batch shape, event (C, H, W), or (D,) for vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from nelbo.distributions.pixels import EVENT_DIMENSIONS

TOLERANCE = 1e-3
"""The accepted distance of a pixel from a level that 8 bits represent exactly, in units of levels."""


class Levels(constraints.Constraint):
    """The constraint that all pixels of an image are of the form k / (L - 1), k = 0, ..., L - 1.

    Args:
        levels: the number of levels L, at least 2.
        dimensions: number of dimensions of the event.
    """

    is_discrete = True

    def __init__(self, levels: int, dimensions: int = EVENT_DIMENSIONS) -> None:
        self.levels, self.event_dim = levels, dimensions
        # If 8 bits cannot represent the levels exactly (L = 17, for example), stored pixels are off by up to 1/510.
        self.tolerance = TOLERANCE + (0 if 255 % (levels - 1) == 0 else 0.5 * (levels - 1) / 255)

    def check(self, value: Tensor) -> Tensor:
        """Return whether each image satisfies the constraint, (...)."""
        steps = value * (self.levels - 1)
        inside = (value >= 0) & (value <= 1) & ((steps - steps.round()).abs() < self.tolerance)
        return inside.flatten(-self.event_dim).all(-1)


class LevelPixels(Distribution):
    """The base of distributions over images with L levels; subclasses define the probability of each level.

    Args:
        levels: the number of levels L, at least 2.
        batch_shape: any.
        event_shape: (C, H, W), or (D,).
    """

    arg_constraints = {}

    def __init__(self, levels: int, batch_shape: torch.Size, event_shape: torch.Size) -> None:
        self.levels = levels
        super().__init__(batch_shape, event_shape, validate_args=False)

    @property
    def top(self) -> int:
        """The index of the highest level, L - 1."""
        return self.levels - 1

    @property
    def support(self) -> constraints.Constraint:
        """The images whose pixels are levels."""
        return Levels(self.levels, len(self.event_shape))

    def nearest(self, value: Tensor) -> Tensor:
        """Return the index of the level nearest to each pixel, 0 to L - 1, as floats."""
        return (value.clamp(0, 1) * self.top).round()
