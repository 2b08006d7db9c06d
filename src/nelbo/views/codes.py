"""Codes of images, both vectors and one-hot codes.

Shapes: B images, D latent dimensions, N variables with K classes each.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import is_discrete, mean_of
from nelbo.models import VAE


def has_classes(model: VAE) -> bool:
    """Return whether the codes z are one-hot, (N, K), instead of vectors, (D,)."""
    return is_discrete(model.prior(model.encode))


def code_of(distribution: Distribution) -> Tensor:
    """Return the code that represents a distribution: its mean, (..., D), or the most probable classes, (..., N, K).

    The mean of one-hot codes is a vector of probabilities, which is not a code itself.
    """
    mean = mean_of(distribution)
    if not is_discrete(distribution):
        return mean
    return functional.one_hot(mean.argmax(-1), mean.shape[-1]).to(mean.dtype)


def features(model: VAE, z: Tensor) -> Tensor:
    """Return codes or their means as vectors that can be compared, (B, D).

    Args:
        model: whose codes they are.
        z: vectors (B, D), which are returned unchanged, or one-hot codes or class probabilities (B, N, K). Of the
            latter the flattened decoder input is returned: the probabilities, or the entries of the codebook.
    """
    return model.posterior.embed(z).flatten(1)
