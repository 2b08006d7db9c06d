"""Likelihoods with one logit a pixel.

Shapes: S Monte Carlo samples, B batch, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from nelbo.distributions import BernoulliPixels
from nelbo.distributions import ContinuousBernoulli as ContinuousBernoulliPixels
from nelbo.heads.bounds import before_bound, soft_bound
from nelbo.heads.likelihood import Likelihood, logit_within_range
from nelbo.nets import Projection

CONTINUOUS_LOGIT_BOUND = 15.0
"""|logit| of a continuous Bernoulli stays below this: its density at 0 and 1 grows with |logit| without end."""


STEPS = 30
"""Of the bisection: less than a millionth of a logit is left."""


class PixelLogits(Likelihood):
    """A likelihood with one logit a pixel; subclasses say what it is the logit of.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    def __init__(self, feature_shape: Sequence[int], shape: Sequence[int]) -> None:
        super().__init__()
        self.project = Projection(feature_shape, shape)

    def initialize(self, images: Tensor) -> None:
        """The bias starts at the logit of the mean image (Burda et al. 2016, C)."""
        self.project.set_bias(images.mean(dim=0), logit_within_range)


class Bernoulli(PixelLogits):
    """p(x|z) = prod Bernoulli(x; p(z)), for binary pixels only (Kingma & Welling 2014, eq. 11).

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    hint = "binarise the pixels (data=binarized_mnist) or use a density (likelihood=gaussian or continuous_bernoulli)"

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        return BernoulliPixels(self.project(features))


class ContinuousBernoulli(PixelLogits):
    """The density on [0, 1] proportional to p^x (1-p)^(1-x), normalised (Loaiza-Ganem & Cunningham 2019, eq. 3).

    Logits are bounded smoothly by `CONTINUOUS_LOGIT_BOUND`: the density at 0 and 1 is not bounded otherwise.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (C, H, W).
    """

    hint = "scale the pixels to [0, 1]"

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """p(x|z)."""
        logits = soft_bound(self.project(features), CONTINUOUS_LOGIT_BOUND)
        return Independent(ContinuousBernoulliPixels(logits), 3, validate_args=False)

    def initialize(self, images: Tensor) -> None:
        """The bias starts where the mean of p is the mean image, which no other constant logits fit better."""
        self.project.set_bias(images.mean(dim=0), _parameter)


def _parameter(mean: Tensor) -> Tensor:
    """What the projection of a continuous Bernoulli says where the mean is this: by bisection, as no formula has it."""
    low = torch.full_like(mean, -CONTINUOUS_LOGIT_BOUND)
    width = 2 * CONTINUOUS_LOGIT_BOUND
    for _ in range(STEPS):
        width /= 2
        low = torch.where(ContinuousBernoulliPixels(low + width).mean < mean, low + width, low)
    return before_bound(low, CONTINUOUS_LOGIT_BOUND)
