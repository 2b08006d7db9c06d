"""Codes of images, be they vectors or one-hot.

Shapes: B images, D latent dimensions, N variables of K classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import is_discrete, mean_of
from nelbo.models import VAE


def has_classes(model: VAE) -> bool:
    """Whether z are one-hot codes, (N, K), and no vectors, (D,)."""
    return is_discrete(model.prior(model.encode))


def code_of(distribution: Distribution) -> Tensor:
    """The code that stands for a distribution, (..., D): its mean; of classes, (..., N, K), the most probable ones.

    A mean of one-hot codes has shares of several classes, and is no code.
    """
    mean = mean_of(distribution)
    if not is_discrete(distribution):
        return mean
    return functional.one_hot(mean.argmax(-1), mean.shape[-1]).to(mean.dtype)


def features(model: VAE, z: Tensor) -> Tensor:
    """Codes (B, D), or their means, as numbers to be compared, (B, D).

    Of classes (B, N, K) what the decoder is given of them, flat: probabilities, or the entries of a codebook.
    """
    return model.posterior.embed(z).flatten(1)
