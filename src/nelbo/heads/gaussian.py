"""Gaussian likelihoods: a learned mean, and sigma fixed, learned (one, per channel or per pixel) or optimal.

Shapes: S Monte Carlo samples, B batch, C H W image. loc and scale are in pixel units, x in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import NormalPixels
from nelbo.heads.likelihood import Likelihood, variance_about
from nelbo.nets import Projection
from nelbo.numerics.collectives import Shares
from nelbo.schedules import Schedule

SIGMA_FLOOR = 1 / (255 * math.sqrt(12))
"""No sigma goes below the noise of 8-bit quantisation: a constant pixel would otherwise earn an unbounded density."""

VARIANCE_MOMENTUM = 0.1
"""Weight of the newest batch in the optimal variance that evaluation uses."""


class Gaussian(Likelihood):
    """p(x|z) = N(mu(z), sigma^2), the mean linear in the features; subclasses say what sigma is.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """The standard deviation, broadcastable to loc (S, B, C, H, W)."""
        raise NotImplementedError

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        loc = self.project(features)
        return NormalPixels(loc, self.deviation(loc, x))

    def initialize(self, images: Tensor) -> None:
        """The bias starts at the mean image, sigma at the deviation from it."""
        start = self.project.set_bias(images.mean(dim=0))
        self.initialize_sigma(variance_about(start, images))

    def initialize_sigma(self, variance: Tensor) -> None:
        """Take a starting value from the variance of each pixel about its start, (C, H, W)."""


class FixedGaussian(Gaussian):
    """sigma is a number or a schedule; as a number, beta * sigma^2 is the water level of the exact linear case.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
        sigma: in pixel units, at least `SIGMA_FLOOR`: a number or a schedule.

    Raises:
        ConfigError: if sigma is neither, or goes below the floor.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, sigma: float | Schedule) -> None:
        super().__init__(feature_shape, shape)
        self.register_scalar("sigma", sigma, minimum=SIGMA_FLOOR)
        self.sigma: Tensor

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """The number."""
        return self.sigma


class LearnedGaussian(Gaussian):
    """One sigma for all pixels, learned with the rest: sigma^2 = floor^2 + exp(2 log_sigma). Linear: probabilistic PCA.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__(feature_shape, shape)
        self.log_sigma = nn.Parameter(self.starting_sigma(shape))

    @staticmethod
    def starting_sigma(shape: Sequence[int]) -> Tensor:
        """Log sigma before the data is seen."""
        return torch.zeros(())

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """The learned value, never below `SIGMA_FLOOR`."""
        return torch.sqrt(SIGMA_FLOOR**2 + torch.exp(2 * self.log_sigma))

    @torch.no_grad()
    def initialize_sigma(self, variance: Tensor) -> None:
        """Start at the deviation of the pixels from the mean image."""
        target = variance if self.log_sigma.ndim else variance.mean()
        self.log_sigma.copy_(target.clamp(min=SIGMA_FLOOR**2).log() / 2)


class PerChannelGaussian(LearnedGaussian):
    """One learned sigma a channel, the same for every z and pixel."""

    @staticmethod
    def starting_sigma(shape: Sequence[int]) -> Tensor:
        """Log sigma before the data is seen."""
        return torch.zeros(shape[0], 1, 1)

    def initialize_sigma(self, variance: Tensor) -> None:
        """Start at the deviation of each channel's pixels from the mean image."""
        super().initialize_sigma(variance.mean(dim=(-2, -1), keepdim=True))


class PerPixelGaussian(LearnedGaussian):
    """One learned sigma a pixel and channel, the same for every z. Linear: factor analysis."""

    @staticmethod
    def starting_sigma(shape: Sequence[int]) -> Tensor:
        """Log sigma before the data is seen."""
        return torch.zeros(tuple(shape))


class OptimalGaussian(Gaussian):
    """sigma^2 is the mean squared error of the batch, its maximum-likelihood value (Rybkin et al. 2021, eq. 5).

    In training it comes from the batch of all processes, without a gradient (at the optimum that gradient is zero);
    evaluation uses a running mean kept in a buffer.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__(feature_shape, shape)
        self.register_buffer("variance", torch.ones(()))
        self.variance: Tensor

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """The batch's value in training, the running one otherwise, never below `SIGMA_FLOOR`."""
        if self.training and x is not None:
            error = Shares.of(x).mean((x - loc).detach().square().mean())
            self.variance.lerp_(error, VARIANCE_MOMENTUM)
            return torch.sqrt(SIGMA_FLOOR**2 + error)
        return torch.sqrt(SIGMA_FLOOR**2 + self.variance)

    @torch.no_grad()
    def initialize_sigma(self, variance: Tensor) -> None:
        """The running value starts at the variance about the mean image."""
        self.variance.copy_(variance.mean())
