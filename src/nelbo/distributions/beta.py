"""Beta pixels.

Shapes: any batch shape, event (C, H, W).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints

from nelbo.distributions.pixels import EVENT_DIMENSIONS
from nelbo.numerics.precision import finest


class BetaPixels(Distribution):
    """A density over x by way of y = (x (L - 1) + 1/2) / L ~ Beta(m n, (1 - m) n), with m the mean of y.

    Levels 0 and 1 become y = 1/(2L) and 1 - 1/(2L), where the density is finite. It is one of x: its logarithm includes
    log((L - 1) / L) a pixel, and it integrates to one over [-h, 1 + h], h = 1 / (2 (L - 1)). Mean and samples are of x.

    Args:
        logits: of m, (..., C, H, W).
        concentration: n, broadcastable to logits: the variance of y is m (1 - m) / (n + 1).
        levels: L, at least 2.
    """

    arg_constraints = {"logits": constraints.real, "concentration": constraints.positive}

    def __init__(self, logits: Tensor, concentration: Tensor, levels: int) -> None:
        self.logits, self.concentration, self.levels = logits, concentration, levels
        super().__init__(logits.shape[:-EVENT_DIMENSIONS], logits.shape[-EVENT_DIMENSIONS:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Where the density is not zero: a little wider than [0, 1]."""
        half = 0.5 / (self.levels - 1)
        return constraints.independent(constraints.interval(-half, 1 + half), EVENT_DIMENSIONS)

    @property
    def shapes(self) -> tuple[Tensor, Tensor]:
        """Both parameters of the Beta, (..., C, H, W); 1 - m from its own logit, so that it keeps its digits."""
        return torch.sigmoid(self.logits) * self.concentration, torch.sigmoid(-self.logits) * self.concentration

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of images, (...), in nats."""
        top, levels = self.levels - 1, self.levels
        log_y, log_rest = ((value * top + 0.5) / levels).log(), (((1 - value) * top + 0.5) / levels).log()
        above, below = self.shapes
        # Terms of 1e4 a pixel cancel to a few nats: in float32 an image would lose whole ones.
        above, below, concentration = (finest(part) for part in (above, below, self.concentration))
        pixels = torch.lgamma(concentration) - torch.lgamma(above) - torch.lgamma(below)
        pixels = pixels + (above - 1) * log_y + (below - 1) * log_rest + math.log(top / levels)
        log_p: Tensor = pixels.flatten(-EVENT_DIMENSIONS).sum(-1)
        return log_p.to(self.logits.dtype)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Pixels, (*sample_shape, ..., C, H, W)."""
        return self._pixels(Beta(*self.shapes, validate_args=False).sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """E[x], (..., C, H, W)."""
        return self._pixels(torch.sigmoid(self.logits))

    def _pixels(self, y: Tensor) -> Tensor:
        return (y * self.levels - 0.5) / (self.levels - 1)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> BetaPixels:
        """The same distribution with a larger batch shape."""
        return BetaPixels(self.logits.expand((*batch_shape, *self.event_shape)), self.concentration, self.levels)
