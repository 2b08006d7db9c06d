"""Pixels that take one of L evenly spaced levels k / (L - 1) in [0, 1].

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional

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


class DiscretizedLogistic(Distribution):
    """A logistic density collected into the nearest level, the two outer ones open to +-infinity.

    P(k) = F(x_k + h) - F(x_k - h), h = 1 / (2 (L - 1)), F(0 level - h) = 0 and F(top level + h) = 1: it sums to one
    (Kingma et al. 2016, eq. 5; Salimans et al. 2017, eq. 2).

    Args:
        loc: (..., C, H, W), in pixel units.
        scale: (C, 1, 1) or broadcastable to loc, in pixel units: the standard deviation is scale * pi / sqrt(3).
        levels: L, at least 2.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale, self.levels = loc, scale, levels
        super().__init__(loc.shape[:-EVENT_DIMENSIONS], loc.shape[-EVENT_DIMENSIONS:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The levels."""
        return Levels(self.levels)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of images, (...), in nats."""
        # In units of the distance between levels: neighbours then share their edge to the last bit.
        top = self.levels - 1
        level, loc, scale = (value * top).round(), self.loc * top, self.scale * top
        below_top, above_bottom = level < top, level > 0
        # F(b) - F(a) = F(b) F(-a) (1 - exp(-(b - a))), whose logarithm is exact far out in the tails too.
        up = torch.where(below_top, functional.logsigmoid((level + 0.5 - loc) / scale), 0)
        down = torch.where(above_bottom, functional.logsigmoid((loc - (level - 0.5)) / scale), 0)
        width = torch.log(-torch.expm1(-1 / scale))
        log_p = up + down + torch.where(below_top & above_bottom, width, 0)
        return log_p.flatten(-EVENT_DIMENSIONS).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Levels, (*sample_shape, ..., C, H, W)."""
        shape = (*sample_shape, *self.loc.shape)
        uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        drawn = self.loc + self.scale * torch.logit(uniform, eps=torch.finfo(uniform.dtype).tiny)
        return (drawn.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)

    @property
    def mean(self) -> Tensor:
        """The exact mean of the levels, (..., C, H, W): the sum over edges of the probability to lie above."""
        top = self.levels - 1
        total = torch.zeros_like(self.loc)
        for level in range(top):  # one at a time: all of them at once would take L times the memory
            total += torch.sigmoid((self.loc * top - (level + 0.5)) / (self.scale * top))
        return total / top

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> DiscretizedLogistic:
        """The same distribution with a larger batch shape."""
        return DiscretizedLogistic(self.loc.expand((*batch_shape, *self.event_shape)), self.scale, self.levels)
