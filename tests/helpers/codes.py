"""Models with a given encoder function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import Delta, DiagonalNormal
from nelbo.models import VAE
from tests.helpers.factors import make_vae


def coded(units: int, function: Callable[[Tensor], Tensor], scale: float | Tensor = 0.1) -> VAE:
    """Return a VAE with q(z|x) = N(function(x), scale^2), a point mass if the scale is 0.

    Args:
        units: D.
        function: of flattened images (B, pixels), returns the means (B, D).
        scale: standard deviation of q(z|x).
    """
    model = make_vae("linear", shape=(1, 1, 1), latent_dim=units)

    def encode(x: Tensor) -> Distribution:
        loc = function(x.flatten(1))
        return (
            Delta(loc) if isinstance(scale, float) and scale == 0 else DiagonalNormal(loc, scale * torch.ones_like(loc))
        )

    model.encode = encode  # type: ignore[method-assign]
    return model


def as_images(values: Tensor) -> Tensor:
    """Reshape values (N, P) to images (N, 1, 1, P)."""
    return values.float()[:, None, None, :]
