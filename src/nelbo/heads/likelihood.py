"""The base class of likelihood heads, and helpers for their initialization.

Shapes: S Monte Carlo samples, B batch, C H W image, or D in place of C H W for vectors. x lies in [0, 1], or is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.errors import ConfigError
from nelbo.heads.scheduled import Scheduled

BIAS_RANGE = 1e-3
"""The minimum distance of mean pixels from 0 and 1 before their logit is taken (as in Burda et al. 2016)."""


class Likelihood(Scheduled):
    """A module from features of z, (S, B, *feature_shape), to p(x|z), batch shape (S, B), event shape (C, H, W).

    Subclasses are constructed with the shape of the decoder's features and the shape of the images.
    """

    hint: ClassVar[str] = "choose another likelihood"
    """The hint of the error for data outside the support of p(x|z)."""

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        """Return p(x|z).

        Args:
            features: features of z, (S, B, *feature_shape).
            x: the batch, (B, C, H, W). It is used by likelihoods that fit a parameter to each batch, in training only.
        """
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Set initial values of the parameters from training images.

        Args:
            images: (N, C, H, W), as the model is given them.
        """
        raise NotImplementedError


def logit_within_range(mean: Tensor) -> Tensor:
    """Return the logit of mean pixels, clamped to keep it finite."""
    return torch.logit(mean.clamp(BIAS_RANGE, 1 - BIAS_RANGE))


def variance_about(start: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared difference of each pixel from its initial mean, (C, H, W).

    Args:
        start: the initial mean of each pixel, (C, H, W), or of each channel, (C, 1, 1).
        images: (N, C, H, W).
    """
    return images.var(dim=0, correction=0) + (images.mean(dim=0) - start).square()


def of_channels(shape: Sequence[int]) -> Tensor:
    """Return zeros, one per channel of an image, (C, 1, 1), or per dimension of a vector, (D,)."""
    return torch.zeros(shape[0], *[1] * (len(shape) - 1))


def mean_of_places(values: Tensor) -> Tensor:
    """Return the mean of each channel of an image (C, H, W) over its pixels, (C, 1, 1); a vector (D,) is unchanged."""
    return values if values.ndim == 1 else values.mean(dim=(-2, -1), keepdim=True)


def refuse_vectors(name: str, shape: Sequence[int]) -> None:
    """Refuse vectors.

    Args:
        name: name of the likelihood, which is one of images only.
        shape: of x.

    Raises:
        ConfigError: if x is a vector.
    """
    if len(shape) == 1:
        hint = f"is for images, and the data are vectors of {shape[0]} numbers; use likelihood=discretized_logistic"
        raise ConfigError("likelihood", name, f"{hint} for levels, or gaussian or laplace", located=True)
