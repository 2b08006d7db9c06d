"""What every prior is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.errors import ConfigError

Encode = Callable[[Tensor], Distribution]


class Prior(nn.Module):
    """Returns p(z) with batch shape (). Made from (event shape of z, shape of the images).

    The event shape is (D,), or (N, K) for N one-hot codes of K classes.
    """

    def forward(self, encode: Encode) -> Distribution:
        """p(z). Only a prior made of posteriors (VampPrior) uses `encode`, which maps images to q(z|x)."""
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Take starting values from training images (N, C, H, W) in [0, 1], where the prior has any."""


def vectors(prior: str, event_shape: Sequence[int]) -> int:
    """D, if z are vectors.

    Raises:
        ConfigError: if they are one-hot codes.
    """
    if len(event_shape) != 1:
        hint = "is over vectors, and z are one-hot codes: use prior=categorical or prior=uniform"
        raise ConfigError("prior", prior, hint, located=True)
    return event_shape[0]


def classes(prior: str, event_shape: Sequence[int]) -> tuple[int, int]:
    """N and K, if z are one-hot codes.

    Raises:
        ConfigError: if they are vectors.
    """
    if len(event_shape) != 2:
        codes = "vector_quantized" if prior == "autoregressive" else "categorical or vector_quantized"
        hint = f"is over one-hot codes, and z are vectors: use prior=standard_normal, or posterior={codes}"
        raise ConfigError("prior", prior, hint, located=True)
    return event_shape[0], event_shape[1]
