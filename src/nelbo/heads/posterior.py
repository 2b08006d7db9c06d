"""Posterior heads: features of x to q(z|x).

Shapes: B batch, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import Delta, DiagonalNormal, Flow, FullNormal
from nelbo.errors import positive_integer
from nelbo.heads.bounds import soft_bound
from nelbo.heads.scheduled import Scheduled
from nelbo.nets import FlowTransforms, Projection

LOG_SCALE_BOUND = 10.0
"""|log sigma| stays below this, so that no standard deviation and no KL over- or underflows in float32."""


class Posterior(Scheduled):
    """Features (B, *feature_shape) to q(z|x) with batch shape (B,). Made from (feature_shape, latent_dim).

    z are vectors, (D,), unless a head says otherwise in the methods below.
    """

    def event_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Of z: (D,), or (N, K) for N one-hot codes of K classes."""
        return (latent_dim,)

    def code_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Of what the decoder is given, which `embed` makes of z."""
        return self.event_shape(latent_dim)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """What the decoder is given, (..., *code_shape), for z (..., *event_shape).

        Args:
            z: samples of q, or of the prior.
            q: in a pass that trains, where rounded codes have a gradient only through it.
        """
        return z

    def forward(self, features: Tensor) -> Distribution:
        """q(z|x)."""
        raise NotImplementedError


class LocationScale(Posterior):
    """A location and a log-scale for each latent dimension; subclasses say of what.

    log scale is bounded smoothly by `LOG_SCALE_BOUND`.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
    """

    def __init__(self, feature_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.project = Projection(feature_shape, (2 * latent_dim,))

    def location_and_log_scale(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both (B, D)."""
        loc, log_scale = self.project(features).chunk(2, dim=-1)
        return loc, soft_bound(log_scale, LOG_SCALE_BOUND)


class DiagonalNormalPosterior(LocationScale):
    """q(z|x) = N(mu(x), diag(sigma(x)^2)), Kingma & Welling 2014, eq. 9."""

    def forward(self, features: Tensor) -> DiagonalNormal:
        """q(z|x)."""
        loc, log_scale = self.location_and_log_scale(features)
        return DiagonalNormal(loc, log_scale.exp(), log_scale)


class LaplacePosterior(LocationScale):
    """q(z|x) = prod Laplace(mu_i(x), b_i(x)): heavier tails; its KL to Gaussians has a closed form in torch."""

    def forward(self, features: Tensor) -> Distribution:
        """q(z|x)."""
        loc, log_scale = self.location_and_log_scale(features)
        return Independent(Laplace(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)


class FullNormalPosterior(Posterior):
    """q(z|x) = N(mu(x), L(x) L(x)^T), L lower triangular (Kingma & Welling 2019, section 2.5.1).

    L = diag(sigma) (I + U), U strictly lower triangular and 0 at the start: as entries of L itself, those of a row
    would have to be as small as its sigma, which an optimiser with one step size for all is slow to find. log sigma is
    bounded smoothly by `LOG_SCALE_BOUND`.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D; the head has D + D (D + 1) / 2 outputs.
    """

    def __init__(self, feature_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.below = latent_dim * (latent_dim - 1) // 2
        self.latent_dim = latent_dim
        self.project = Projection(feature_shape, (2 * latent_dim + self.below,))
        self.register_buffer("places", torch.tril_indices(latent_dim, latent_dim, offset=-1), persistent=False)
        self.places: Tensor
        with torch.no_grad():
            for parameter in self.project.parameters():
                parameter[2 * latent_dim :] = 0

    def forward(self, features: Tensor) -> FullNormal:
        """q(z|x)."""
        sizes = [self.latent_dim, self.latent_dim, self.below]
        loc, log_scale, below = self.project(features).split(sizes, dim=-1)
        scale = soft_bound(log_scale, LOG_SCALE_BOUND).exp()
        factor = torch.diag_embed(scale)
        factor[..., self.places[0], self.places[1]] = below * scale[..., self.places[0]]
        return FullNormal(loc, factor)


class FlowPosterior(LocationScale):
    """q(z|x): a diagonal Gaussian moved by layers that see x too (Kingma et al. 2016, Algorithm 1).

    Samples come with their density and invert nothing; the density of a given z does, and is slow for `autoregressive`.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        context: features of x that each layer's net sees.
        kind: autoregressive (inverse autoregressive flow), coupling or spline.
        layers: how many.
        hidden: widths of each layer's net.

    Raises:
        ConfigError: for a kind that does not exist or a number out of range.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        latent_dim: int,
        *,
        context: int,
        kind: str,
        layers: int,
        hidden: Sequence[int],
    ) -> None:
        super().__init__(feature_shape, latent_dim)
        self.context = Projection(feature_shape, (positive_integer("context", context),))
        self.transforms = FlowTransforms(latent_dim, context, kind=kind, layers=layers, hidden=hidden)

    def forward(self, features: Tensor) -> Flow:
        """q(z|x)."""
        loc, log_scale = self.location_and_log_scale(features)
        base = DiagonalNormal(loc, log_scale.exp(), log_scale)
        return Flow(base, self.transforms(self.context(features)))


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
