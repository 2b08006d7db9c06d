"""Pixels with a Beta density.

Shapes: any batch shape, event (C, H, W), or with `dimensions=1` (D,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Beta, Distribution, constraints

from nelbo.distributions.pixels import EVENT_DIMENSIONS
from nelbo.numerics.precision import finest


class BetaPixels(Distribution):
    """The density of x where y = (x (L - 1) + 1/2) / L ~ Beta(m n, (1 - m) n), with m the mean of y.

    The pixels x = 0 and x = 1 map to y = 1/(2L) and 1 - 1/(2L), where the density is finite. It is a density of x: its
    logarithm includes log((L - 1) / L) per pixel, and it integrates to 1 over [-h, 1 + h] with h = 1 / (2 (L - 1)).
    The mean and the samples are in units of x.

    Args:
        logits: logit of m, (..., C, H, W).
        concentration: n, broadcastable to logits. The variance of y is m (1 - m) / (n + 1).
        levels: the number of levels L of a pixel, at least 2.
        dimensions: number of dimensions of the event.

    Example:
        >>> px = BetaPixels(torch.zeros(5, 1, 4, 4), torch.tensor(10.0), levels=256)
        >>> px.batch_shape, px.event_shape, px.log_prob(torch.rand(5, 1, 4, 4)).shape
        (torch.Size([5]), torch.Size([1, 4, 4]), torch.Size([5]))
    """

    arg_constraints = {"logits": constraints.real, "concentration": constraints.positive}

    def __init__(self, logits: Tensor, concentration: Tensor, levels: int, dimensions: int = EVENT_DIMENSIONS) -> None:
        self.logits, self.concentration, self.levels = logits, concentration, levels
        super().__init__(logits.shape[:-dimensions], logits.shape[-dimensions:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The interval with a positive density, [-h, 1 + h]: slightly wider than [0, 1]."""
        half = 0.5 / (self.levels - 1)
        return constraints.independent(constraints.interval(-half, 1 + half), len(self.event_shape))

    @property
    def alpha_and_beta(self) -> tuple[Tensor, Tensor]:
        """The parameters of the Beta distribution, alpha = m n and beta = (1 - m) n, each (..., C, H, W)."""
        # 1 - m is computed from its own logit to avoid cancellation.
        return torch.sigmoid(self.logits) * self.concentration, torch.sigmoid(-self.logits) * self.concentration

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density of images, (...), in nats."""
        log_p: Tensor = self._precise(value).flatten(-len(self.event_shape)).sum(-1)
        return log_p.to(self.logits.dtype)

    def pixel_log_probs(self, value: Tensor) -> Tensor:
        """Return the log-density of each pixel of images, (..., C, H, W), in nats."""
        return self._precise(value).to(self.logits.dtype)

    def _precise(self, value: Tensor) -> Tensor:
        """Return the log-density of each pixel in the finest precision that the device has."""
        top, levels = self.levels - 1, self.levels
        log_y, log_1_minus_y = ((value * top + 0.5) / levels).log(), (((1 - value) * top + 0.5) / levels).log()
        alpha, beta = self.alpha_and_beta
        # Terms of about 1e4 per pixel cancel to a few nats: in float32 the error per image would be several nats.
        alpha, beta, concentration = (finest(part) for part in (alpha, beta, self.concentration))
        pixels = torch.lgamma(concentration) - torch.lgamma(alpha) - torch.lgamma(beta)
        return pixels + (alpha - 1) * log_y + (beta - 1) * log_1_minus_y + math.log(top / levels)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return pixels, (*sample_shape, ..., C, H, W)."""
        return self._pixels(Beta(*self.alpha_and_beta, validate_args=False).sample(torch.Size(sample_shape)))

    @property
    def mean(self) -> Tensor:
        """E[x], (..., C, H, W)."""
        return self._pixels(torch.sigmoid(self.logits))

    def _pixels(self, y: Tensor) -> Tensor:
        """Return x for y."""
        return (y * self.levels - 0.5) / (self.levels - 1)

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> BetaPixels:
        """Return the same distribution with a larger batch shape."""
        logits = self.logits.expand((*batch_shape, *self.event_shape))
        return BetaPixels(logits, self.concentration, self.levels, len(self.event_shape))
