"""Posterior heads: features of x to q(z|x).

Shapes: B batch, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import Delta, DiagonalNormal
from nelbo.heads.bounds import soft_bound
from nelbo.nets import Projection

LOG_SCALE_BOUND = 10.0
"""|log sigma| stays below this, so that no standard deviation and no KL over- or underflows in float32."""


class Posterior(nn.Module):
    """Features (B, *feature_shape) to q(z|x) with batch shape (B,) and event shape (D,)."""

    def forward(self, features: Tensor) -> Distribution:
        """q(z|x)."""
        raise NotImplementedError


class DiagonalNormalPosterior(Posterior):
    """q(z|x) = N(mu(x), diag(sigma(x)^2)), Kingma & Welling 2014, eq. 9.

    The net gives log sigma, bounded smoothly by `LOG_SCALE_BOUND`.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
    """

    def __init__(self, feature_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.project = Projection(feature_shape, (2 * latent_dim,))

    def forward(self, features: Tensor) -> DiagonalNormal:
        """q(z|x)."""
        loc, log_scale = self.project(features).chunk(2, dim=-1)
        log_scale = soft_bound(log_scale, LOG_SCALE_BOUND)
        return DiagonalNormal(loc, log_scale.exp(), log_scale)


class DeterministicPosterior(Posterior):
    """A point: the code of a plain autoencoder. It has no density, so no KL and no ELBO.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
    """

    def __init__(self, feature_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.project = Projection(feature_shape, (latent_dim,))

    def forward(self, features: Tensor) -> Delta:
        """The point mass on the code."""
        return Delta(self.project(features))
