"""Models with a given q(z|x)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import Delta, DiagonalNormal
from nelbo.models import VAE, Inference
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

    return with_posterior(model, encode)


def with_posterior(model: VAE, encode: Callable[[Tensor], Distribution]) -> VAE:
    """Give a VAE another q(z|x), and return it.

    Args:
        model: the VAE.
        encode: maps images (B, C, H, W) to q(z|x), batch shape (B,).
    """
    model.encode = lambda x, context=None: encode(x)  # type: ignore[assignment, method-assign, misc]
    model.infer = lambda x, context=None: Inference(  # type: ignore[assignment, method-assign, misc]
        encode(x), model.top_prior(), x, encode
    )
    return model


def as_images(values: Tensor) -> Tensor:
    """Reshape values (N, P) to images (N, 1, 1, P)."""
    return values.float()[:, None, None, :]
