"""Densities collected into the nearest of L levels, the two outer ones open to +-infinity.

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from nelbo.distributions.levels import LevelPixels
from nelbo.distributions.pixels import EVENT_DIMENSIONS

SQRT_HALF = math.sqrt(0.5)

FAR = 1e30
"""An open edge, in levels: no scale reaches it, and unlike infinity it gives zero times it a value."""


class Discretized(LevelPixels):
    """P(k) = F(x_k + h) - F(x_k - h), h = 1 / (2 (L - 1)), F(0 level - h) = 0 and F(top level + h) = 1: it sums to one.

    Subclasses say what F is. Inside, all is in units of the distance between levels, where neighbours share an edge to
    the last bit.

    Args:
        loc: (..., C, H, W), in pixel units.
        scale: (C, 1, 1) or broadcastable to loc, in pixel units.
        levels: L, at least 2.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(levels, loc.shape[:-EVENT_DIMENSIONS], loc.shape[-EVENT_DIMENSIONS:])

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Log P(level), of the broadcast shape, in nats; loc and scale in units of the distance between levels."""
        raise NotImplementedError

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """F at scale 1 about 0."""
        raise NotImplementedError

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Samples at scale 1 about 0, of the type and on the device of `like`."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-probability of images, (...), in nats."""
        log_p = self.log_mass(self.nearest(value), self.top, self.loc * self.top, self.scale * self.top)
        return log_p.flatten(-EVENT_DIMENSIONS).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Levels, (*sample_shape, ..., C, H, W)."""
        drawn = self.loc + self.scale * self.noise((*sample_shape, *self.loc.shape), self.loc)
        return self.nearest(drawn) / self.top

    @property
    def mean(self) -> Tensor:
        """The exact mean of the levels, (..., C, H, W)."""
        return self.mean_level(self.top, self.loc * self.top, self.scale * self.top) / self.top

    @classmethod
    def mean_level(cls, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """The mean number of the level: the sum over edges of the probability to lie above."""
        total = torch.zeros_like(loc)
        for level in range(top):  # one at a time: all of them at once would take L times the memory
            total += cls.distribution_function((loc - (level + 0.5)) / scale)
        return total

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> Self:
        """The same distribution with a larger batch shape."""
        return type(self)(self.loc.expand((*batch_shape, *self.event_shape)), self.scale, self.levels)


class DiscretizedLogistic(Discretized):
    """A logistic density collected into levels (Kingma et al. 2016, eq. 5; Salimans et al. 2017, eq. 2).

    Its standard deviation, before it is collected, is scale * pi / sqrt(3).
    """

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """F(b) - F(a) = F(b) F(-a) (1 - exp(-(b - a))), whose logarithm is exact far out in the tails too."""
        below_top, above_bottom = level < top, level > 0
        # What depends on the level alone is small where it meets many components.
        upper = torch.where(below_top, level + 0.5, FAR)
        lower = torch.where(above_bottom, level - 0.5, -FAR)
        closed = (below_top & above_bottom).to(level.dtype)
        steepness = 1 / scale
        up = functional.logsigmoid((upper - loc) * steepness)
        down = functional.logsigmoid((loc - lower) * steepness)
        return up + down + closed * torch.log(-torch.expm1(-steepness))

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """1 / (1 + exp(-value))."""
        return torch.sigmoid(value)

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """The logit of a uniform number."""
        uniform = torch.rand(shape, dtype=like.dtype, device=like.device)
        return torch.logit(uniform, eps=torch.finfo(uniform.dtype).eps / 4)


class DiscretizedGaussian(Discretized):
    """A normal density collected into levels; scale is its standard deviation."""

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Reflected to the lower tail, where F(-a) = erfcx(a / sqrt 2) exp(-a^2 / 2) / 2 keeps its digits.

        torch's own log_ndtr has no gradient there: at -10,000 in float32 it is six times too large.
        """
        closed = (level > 0) & (level < top)
        # How far the upper edge lies above loc, and the lower one below it.
        up = torch.where(level < top, (level + 0.5 - loc) / scale, math.inf)
        down = torch.where(level > 0, (loc - (level - 0.5)) / scale, math.inf)
        inside = (up > 0) & (down > 0)
        # loc within the level: two parts, that add. Elsewhere their sum is replaced, so that no logarithm is of 0.
        around = torch.where(inside, 0.5 * (torch.erf(up * SQRT_HALF) + torch.erf(down * SQRT_HALF)), 1)
        # loc outside: a tail from the near edge, less that from the far edge.
        width = 1 / scale
        near = (-torch.minimum(up, down)).clamp(min=0)
        shrink = torch.exp(-width * (near + width / 2))
        rest = torch.special.erfcx(near * SQRT_HALF)
        difference = rest - torch.special.erfcx((near + width) * SQRT_HALF) * shrink
        # It lies between width times the density at either edge: these hold it where a difference has no digits left.
        slab = width * math.sqrt(2 / math.pi)
        difference = torch.minimum(torch.maximum(difference, slab * shrink), slab)
        outside = torch.log(torch.where(closed, difference, rest)) - 0.5 * near.square() - math.log(2)
        return torch.where(inside, around.log(), outside)

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """The normal distribution function."""
        below: Tensor = torch.special.ndtr(value)
        return below

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, dtype=like.dtype, device=like.device)
