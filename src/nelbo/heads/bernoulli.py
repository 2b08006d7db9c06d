"""Likelihoods with one logit per pixel.

Shapes: S Monte Carlo samples, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from nelbo.distributions import BernoulliPixels
from nelbo.distributions import ContinuousBernoulli as ContinuousBernoulliPixels
from nelbo.heads.bounds import inverse_soft_bound, soft_bound
from nelbo.heads.likelihood import Likelihood, logit_within_range
from nelbo.nets import Projection

CONTINUOUS_LOGIT_BOUND = 15.0
"""The bound of |logit| of a continuous Bernoulli, whose density at 0 and 1 otherwise grows without limit."""

STEPS = 30
"""The number of bisection steps, after which the error of a logit is below 1e-6."""


class PixelLogits(Likelihood):
    """The base of likelihoods with one logit per pixel; subclasses define the distribution.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)
        self.dimensions = len(shape)

    def initialize(self, images: Tensor) -> None:
        """Set the bias to the logit of the mean image (Burda et al. 2016, appendix C)."""
        self.project.set_bias(images.mean(dim=0), logit_within_range)


class Bernoulli(PixelLogits):
    """p(x|z) = prod_i Bernoulli(x_i; p_i(z)), for binary pixels only (Kingma & Welling 2014, eq. 11).

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).

    Example:
        >>> likelihood = Bernoulli((16,), (1, 28, 28))
        >>> px = likelihood(torch.zeros(3, 5, 16))  # features of 3 samples for each of 5 images
        >>> px.log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([3, 5])
    """

    hint = "binarise the pixels (data=binarized_mnist) or use a density (likelihood=gaussian or continuous_bernoulli)"

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        return BernoulliPixels(self.project(features), self.dimensions)


class ContinuousBernoulli(PixelLogits):
    """The normalised density on [0, 1] proportional to p^x (1-p)^(1-x) (Loaiza-Ganem & Cunningham 2019, eq. 3).

    The logits are bounded smoothly by `CONTINUOUS_LOGIT_BOUND`.

    Args:
        feature_shape: shape of the decoder's features.
        shape: shape of the images, (C, H, W).
    """

    hint = "scale the pixels to [0, 1]"

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z)."""
        logits = soft_bound(self.project(features), CONTINUOUS_LOGIT_BOUND)
        return Independent(ContinuousBernoulliPixels(logits), self.dimensions, validate_args=False)

    def initialize(self, images: Tensor) -> None:
        """Set the bias such that E[x] is the mean image: the maximum-likelihood constant logits."""
        self.project.set_bias(images.mean(dim=0), _projected_value)


def _projected_value(mean: Tensor) -> Tensor:
    """Return the projected value that gives the mean E[x], by bisection because there is no closed form."""
    low = torch.full_like(mean, -CONTINUOUS_LOGIT_BOUND)
    width = 2 * CONTINUOUS_LOGIT_BOUND
    for _ in range(STEPS):
        width /= 2
        low = torch.where(ContinuousBernoulliPixels(low + width).mean < mean, low + width, low)
    return inverse_soft_bound(low, CONTINUOUS_LOGIT_BOUND)
