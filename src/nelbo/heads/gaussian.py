"""Gaussian likelihoods with a learned mean and a fixed, learned or optimal sigma.

Shapes: S Monte Carlo samples, B batch, C H W image, or D in place of C H W for vectors. loc and scale are in the units
of x: for pixels x lies in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import NormalPixels
from nelbo.heads.likelihood import Likelihood, mean_of_places, of_channels, variance_about
from nelbo.nets import Projection
from nelbo.numerics.collectives import Shares
from nelbo.schedules import Schedule

SIGMA_FLOOR = 1 / (255 * math.sqrt(12))
"""The least sigma, the standard deviation of 8-bit quantisation noise.

Without a bound, constant pixels would have an unbounded density."""

VARIANCE_MOMENTUM = 0.1
"""The weight of the current batch in the running mean of the optimal variance, which evaluation uses."""


class Gaussian(Likelihood):
    """p(x|z) = N(x; mu(z), sigma^2 I) with mu(z) linear in the features; subclasses define sigma.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)
        self.dimensions = len(shape)

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """Return sigma.

        Args:
            loc: mu(z), (S, B, C, H, W).
            x: the batch, (B, C, H, W), or None.

        Returns:
            A tensor that broadcasts to (C, H, W).
        """
        raise NotImplementedError

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        loc = self.project(features)
        return NormalPixels(loc, self.deviation(loc, x), self.dimensions)

    def initialize(self, images: Tensor) -> None:
        """Set the bias to the mean image, and sigma to the standard deviation of the pixels from it."""
        start = self.project.set_bias(images.mean(dim=0))
        self.initialize_sigma(variance_about(start, images))

    def initialize_sigma(self, variance: Tensor) -> None:
        """Set the initial sigma, if it is learned.

        Args:
            variance: the mean squared difference of each pixel from its initial mean, (C, H, W).
        """


class FixedGaussian(Gaussian):
    """A Gaussian with a fixed or scheduled sigma.

    For linear models with a fixed sigma, beta * sigma^2 is the water level of reverse water-filling.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
        sigma: a number or a schedule, in pixel units, at least `SIGMA_FLOOR`.

    Raises:
        ConfigError: if sigma is neither, or is below `SIGMA_FLOOR`.
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int], *, sigma: float | Schedule) -> None:
        super().__init__(feature_shape, shape)
        self.register_scalar("sigma", sigma, minimum=SIGMA_FLOOR)
        self.sigma: Tensor

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """Return the current sigma, ()."""
        return self.sigma


class LearnedGaussian(Gaussian):
    """A Gaussian with one learned sigma for all pixels: sigma^2 = `SIGMA_FLOOR`^2 + exp(2 log_sigma).

    With a linear decoder this is probabilistic PCA.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).

    Example:
        >>> likelihood = LearnedGaussian((16,), (1, 28, 28))
        >>> likelihood.initialize(torch.rand(100, 1, 28, 28))  # training images
        >>> px = likelihood(torch.zeros(3, 5, 16))  # features of 3 samples for each of 5 images
        >>> px.log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([3, 5])
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__(feature_shape, shape)
        self.log_sigma = nn.Parameter(self.initial_log_sigma(shape))

    @staticmethod
    def initial_log_sigma(shape: Sequence[int]) -> Tensor:
        """Return log sigma before `initialize`."""
        return torch.zeros(())

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """Return the learned sigma."""
        return torch.sqrt(SIGMA_FLOOR**2 + torch.exp(2 * self.log_sigma))

    @torch.no_grad()
    def initialize_sigma(self, variance: Tensor) -> None:
        """Set sigma to the standard deviation of the pixels from the mean image."""
        target = variance if self.log_sigma.ndim else variance.mean()
        self.log_sigma.copy_(target.clamp(min=SIGMA_FLOOR**2).log() / 2)


class PerChannelGaussian(LearnedGaussian):
    """A Gaussian with one learned sigma per channel, or dimension of a vector, the same for all z and pixels.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    @staticmethod
    def initial_log_sigma(shape: Sequence[int]) -> Tensor:
        """Return log sigma before `initialize`."""
        return of_channels(shape)

    def initialize_sigma(self, variance: Tensor) -> None:
        """Set sigma to the standard deviation of the pixels of each channel from the mean image."""
        super().initialize_sigma(mean_of_places(variance))


class PerPixelGaussian(LearnedGaussian):
    """A Gaussian with one learned sigma per pixel and channel, the same for all z.

    With a linear decoder this is factor analysis.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    @staticmethod
    def initial_log_sigma(shape: Sequence[int]) -> Tensor:
        """Return log sigma before `initialize`."""
        return torch.zeros(tuple(shape))


class OptimalGaussian(Gaussian):
    """A Gaussian whose sigma^2 is the mean squared error of the batch, the optimum (Rybkin et al. 2021, eq. 5).

    In training it is computed from the batch of all processes and treated as a constant (the gradient of the likelihood
    with respect to sigma is 0 at the optimum). Evaluation uses a running mean, which is a buffer.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__(feature_shape, shape)
        self.register_buffer("variance", torch.ones(()))
        self.variance: Tensor

    def deviation(self, loc: Tensor, x: Tensor | None) -> Tensor:
        """Return the sigma of the batch in training, and the running one otherwise, at least `SIGMA_FLOOR`; ()."""
        if self.training and x is not None:
            error = Shares.of(x).mean((x - loc).detach().square().mean())
            self.variance.lerp_(error, VARIANCE_MOMENTUM)
            return torch.sqrt(SIGMA_FLOOR**2 + error)
        return torch.sqrt(SIGMA_FLOOR**2 + self.variance)

    @torch.no_grad()
    def initialize_sigma(self, variance: Tensor) -> None:
        """Set the running variance to that of the pixels from the mean image."""
        self.variance.copy_(variance.mean())
