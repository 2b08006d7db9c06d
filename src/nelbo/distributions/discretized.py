"""Pixels with L levels whose probabilities are integrals of a density over intervals around the levels.

Shapes: any batch shape, event (C, H, W), or with `dimensions=1` (D,).
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
"""A finite substitute for an interval edge at infinity, in units of levels: 0 times infinity would be NaN."""


class Discretized(LevelPixels):
    """P(k) = F((x_k + h - loc) / scale) - F((x_k - h - loc) / scale), with x_k = k / (L - 1) and h = 1 / (2 (L - 1)).

    F is a cumulative distribution function, which subclasses define. The interval of the lowest level extends to
    -infinity and that of the highest to +infinity, so that the probabilities sum to 1. The computations are in units of
    the distance between levels, in which adjacent intervals share exactly the same edge.

    Args:
        loc: (..., C, H, W), in pixel units.
        scale: (C, 1, 1) or broadcastable to loc, in pixel units.
        levels: the number of levels L, at least 2.
        dimensions: number of dimensions of the event.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, dimensions: int = EVENT_DIMENSIONS) -> None:
        self.loc, self.scale = loc, scale
        super().__init__(levels, loc.shape[:-dimensions], loc.shape[-dimensions:])

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Return log P(level) of the broadcast shape, in nats.

        Args:
            level: the index of the level, 0 to L - 1, as a float.
            top: the index of the highest level, L - 1.
            loc: location, in units of the distance between levels.
            scale: scale, in units of the distance between levels.
        """
        raise NotImplementedError

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """Return F(value), the cumulative distribution function at location 0 and scale 1."""
        raise NotImplementedError

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return samples at location 0 and scale 1, with the dtype and device of `like`."""
        raise NotImplementedError

    def pixel_log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each pixel of images, (..., C, H, W), in nats."""
        return self.log_mass(self.nearest(value), self.top, self.loc * self.top, self.scale * self.top)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images, (...), in nats."""
        return self.pixel_log_probs(value).flatten(-len(self.event_shape)).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return images, (*sample_shape, ..., C, H, W)."""
        drawn = self.loc + self.scale * self.noise((*sample_shape, *self.loc.shape), self.loc)
        return self.nearest(drawn) / self.top

    @property
    def mean(self) -> Tensor:
        """The exact mean image, (..., C, H, W)."""
        return self.mean_level(self.top, self.loc * self.top, self.scale * self.top) / self.top

    @classmethod
    def mean_level(cls, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the mean index of the level: the sum over edges of the probability above the edge.

        Args:
            top: the index of the highest level, L - 1.
            loc: location, in units of the distance between levels.
            scale: scale, in units of the distance between levels.
        """
        total = torch.zeros_like(loc)
        for level in range(top):  # in a loop, because all edges at once would take L times the memory
            total += cls.distribution_function((loc - (level + 0.5)) / scale)
        return total

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> Self:
        """Return the same distribution with a larger batch shape."""
        loc = self.loc.expand((*batch_shape, *self.event_shape))
        return type(self)(loc, self.scale, self.levels, len(self.event_shape))


class DiscretizedLogistic(Discretized):
    """A discretized logistic density (Kingma et al. 2016, eq. 5; Salimans et al. 2017, eq. 2).

    The standard deviation of the density is scale * pi / sqrt(3).

    Example:
        >>> px = DiscretizedLogistic(torch.zeros(5, 1, 4, 4), torch.tensor(0.1), levels=256)
        >>> px.batch_shape, px.event_shape, px.log_prob(torch.zeros(5, 1, 4, 4)).shape
        (torch.Size([5]), torch.Size([1, 4, 4]), torch.Size([5]))
    """

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Return log(F(b) - F(a)), as the log of F(b) F(-a) (1 - exp(a - b)), which is accurate in the tails too."""
        below_top, above_bottom = level < top, level > 0
        # These depend on the level only, and are small tensors even if loc and scale have many components.
        upper = torch.where(below_top, level + 0.5, FAR)
        lower = torch.where(above_bottom, level - 0.5, -FAR)
        closed = (below_top & above_bottom).to(level.dtype)
        steepness = 1 / scale
        up = functional.logsigmoid((upper - loc) * steepness)
        down = functional.logsigmoid((loc - lower) * steepness)
        return up + down + closed * torch.log(-torch.expm1(-steepness))

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-value))."""
        return torch.sigmoid(value)

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return logits of uniform numbers."""
        uniform = torch.rand(shape, dtype=like.dtype, device=like.device)
        return torch.logit(uniform, eps=torch.finfo(uniform.dtype).eps / 4)


class DiscretizedGaussian(Discretized):
    """A discretized normal density; `scale` is its standard deviation (Ho et al. 2020, eq. 13)."""

    @staticmethod
    def log_mass(level: Tensor, top: int, loc: Tensor, scale: Tensor) -> Tensor:
        """Return log P(level); in the tails, F(-a) = erfcx(a / sqrt 2) exp(-a^2 / 2) / 2 avoids cancellation.

        `torch.special.log_ndtr` is not used because its gradient is wrong in the tail: at -10,000 in float32 it is six
        times too large.
        """
        closed = (level > 0) & (level < top)
        # The distances from loc up to the upper edge and down to the lower edge, in units of scale.
        up = torch.where(level < top, (level + 0.5 - loc) / scale, math.inf)
        down = torch.where(level > 0, (loc - (level - 0.5)) / scale, math.inf)
        inside = (up > 0) & (down > 0)
        # If loc is inside the interval, the masses on both sides of it add. Elsewhere 1 avoids the logarithm of 0.
        around = torch.where(inside, 0.5 * (torch.erf(up * SQRT_HALF) + torch.erf(down * SQRT_HALF)), 1)
        # If loc is outside, the mass is the tail beyond the near edge minus the tail beyond the far edge.
        width = 1 / scale
        near = (-torch.minimum(up, down)).clamp(min=0)
        shrink = torch.exp(-width * (near + width / 2))
        rest = torch.special.erfcx(near * SQRT_HALF)
        difference = rest - torch.special.erfcx((near + width) * SQRT_HALF) * shrink
        # Clamp to the bounds, width times the density at either edge: the difference may have lost all precision.
        slab = width * math.sqrt(2 / math.pi)
        difference = torch.minimum(torch.maximum(difference, slab * shrink), slab)
        outside = torch.log(torch.where(closed, difference, rest)) - 0.5 * near.square() - math.log(2)
        return torch.where(inside, around.log(), outside)

    @staticmethod
    def distribution_function(value: Tensor) -> Tensor:
        """Return the standard normal cumulative distribution function."""
        below: Tensor = torch.special.ndtr(value)
        return below

    @staticmethod
    def noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, dtype=like.dtype, device=like.device)
