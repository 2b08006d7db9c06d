"""Posterior heads, from features of x to q(z|x).

Shapes: B batch, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace

from nelbo.distributions import Delta, DiagonalNormal, Flow, FullNormal
from nelbo.errors import boolean, choice, positive_integer
from nelbo.heads.bounds import positive_scale, soft_bound
from nelbo.heads.scheduled import Scheduled
from nelbo.nets import FlowTransforms, Projection

LOG_SCALE_BOUND = 10.0
"""The bound of |log sigma|, which prevents overflow and underflow of scales and KLs in float32."""

SCALES = ("exp", "softplus")
"""How a number becomes a scale: its exponential, or `positive_scale`."""


class Posterior(Scheduled):
    """A module from features of x, (B, *feature_shape), to q(z|x) with batch shape (B,).

    Subclasses are constructed with the shape of the encoder's features and `latent_dim`. Here z is a vector, (D,);
    subclasses with other events override the methods for shapes and `embed`.
    """

    fits_hierarchies: ClassVar[bool] = False
    """Whether it can be the posterior of the top level of a hierarchy: q has a density over vectors of real numbers."""

    relative_to_prior: ClassVar[bool] = False
    """Whether q of the levels below the top of a hierarchy is relative to p(z|above)."""

    def event_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Return the shape of z: (D,), or (N, K) for N one-hot codes of K classes."""
        return (latent_dim,)

    def code_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Return the shape of the input of the decoder, which is the output of `embed`."""
        return self.event_shape(latent_dim)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the input of the decoder for z, (..., *code_shape).

        Args:
            z: samples of q or of the prior, (..., *event_shape).
            q: the posterior that z was sampled from, in training: codes rounded to a codebook have a gradient only
                through it.
        """
        return z

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z|x)."""
        raise NotImplementedError


def scale_and_log(raw: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Return the scales that a head predicts, and their logarithms.

    Args:
        raw: the output of the head, of any shape.
        kind: one of `SCALES`.
    """
    if kind == "softplus":
        scale = positive_scale(raw)
        return scale, scale.log()
    log_scale = soft_bound(raw, LOG_SCALE_BOUND)
    return log_scale.exp(), log_scale


class LocationScale(Posterior):
    """The base of posteriors with a location and a scale for each latent dimension.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        scale: `exp`, whose logarithm is bounded smoothly by `LOG_SCALE_BOUND`, or `softplus`, which grows linearly
            (`bounds.positive_scale`): one image with unusual features then does not end the training of a deep model.

    Raises:
        ConfigError: if `scale` is unknown.
    """

    fits_hierarchies = True

    def __init__(self, feature_shape: Sequence[int], latent_dim: int, *, scale: str = "exp") -> None:
        super().__init__()
        self.scale = choice("scale", scale, SCALES)
        self.project = Projection(feature_shape, (2 * latent_dim,))

    def location_and_scale(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the location, the scale and its logarithm, each (B, D)."""
        loc, raw = self.project(features).chunk(2, dim=-1)
        return loc, *scale_and_log(raw, self.scale)


class DiagonalNormalPosterior(LocationScale):
    """q(z|x) = N(z; mu(x), diag(sigma(x)^2)) (Kingma & Welling 2014, eq. 9).

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        scale: `exp` or `softplus`, as in `LocationScale`.
        log_scale_shift: whether constants (D,) are added to log sigma(x). They are a buffer of this name, 0 until they
            are set or loaded; a model that was trained for many settings and is folded at one has them
            (`nelbo.models.folding`).

    Raises:
        ConfigError: if `scale` is unknown, or `log_scale_shift` is not true or false.

    Example:
        >>> posterior = DiagonalNormalPosterior((16,), latent_dim=2)
        >>> q = posterior(torch.zeros(5, 16))
        >>> q.rsample((3,)).shape
        torch.Size([3, 5, 2])
    """

    def __init__(
        self, feature_shape: Sequence[int], latent_dim: int, *, scale: str = "exp", log_scale_shift: bool = False
    ) -> None:
        super().__init__(feature_shape, latent_dim, scale=scale)
        has_shift = boolean("log_scale_shift", log_scale_shift)
        self.register_buffer("log_scale_shift", torch.zeros(latent_dim) if has_shift else None)
        self.log_scale_shift: Tensor | None

    def forward(self, features: Tensor) -> DiagonalNormal:
        """Return q(z|x)."""
        loc, scale, log_scale = self.location_and_scale(features)
        if self.log_scale_shift is None:
            return DiagonalNormal(loc, scale, log_scale)
        log_scale = log_scale + self.log_scale_shift
        return DiagonalNormal(loc, log_scale.exp(), log_scale)


class ResidualNormalPosterior(DiagonalNormalPosterior):
    """As `DiagonalNormalPosterior`; in a hierarchy, q of the levels below the top is relative to p(z|above).

    q(z|above, x) = N(mu_p + d, (sigma_p s)^2), where d and s are functions of x and the levels above (Vahdat & Kautz
    2020, section 3.2). It starts as p. At the top, and in a model of one level, q is an ordinary diagonal normal.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        scale: `exp` or `softplus`, as in `LocationScale`.
        log_scale_shift: as in `DiagonalNormalPosterior`.
    """

    relative_to_prior = True


class LaplacePosterior(LocationScale):
    """q(z|x) = prod_i Laplace(z_i; mu_i(x), b_i(x)), whose KL to a Gaussian has a closed form.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        scale: `exp` or `softplus`, as in `LocationScale`.
    """

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z|x)."""
        loc, scale, _ = self.location_and_scale(features)
        return Independent(Laplace(loc, scale, validate_args=False), 1, validate_args=False)


class FullNormalPosterior(Posterior):
    """q(z|x) = N(z; mu(x), L(x) L(x)^T) with L lower triangular (Kingma & Welling 2019, section 2.5.1).

    The factor is L = diag(sigma) (I + U), where U is strictly lower triangular and initially 0. If the head predicted
    the entries of L directly, those of a row would have to be about as small as its sigma, which an optimiser with one
    step size for all parameters is slow to learn.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D; the head has D + D (D + 1) / 2 outputs.
        scale: `exp` or `softplus`, of sigma, as in `LocationScale`.

    Raises:
        ConfigError: if `scale` is unknown.
    """

    fits_hierarchies = True

    def __init__(self, feature_shape: Sequence[int], latent_dim: int, *, scale: str = "exp") -> None:
        super().__init__()
        self.scale = choice("scale", scale, SCALES)
        self.below = latent_dim * (latent_dim - 1) // 2
        self.latent_dim = latent_dim
        self.project = Projection(feature_shape, (2 * latent_dim + self.below,))
        self.register_buffer("places", torch.tril_indices(latent_dim, latent_dim, offset=-1), persistent=False)
        self.places: Tensor
        with torch.no_grad():
            for parameter in self.project.parameters():
                parameter[2 * latent_dim :] = 0

    def forward(self, features: Tensor) -> FullNormal:
        """Return q(z|x)."""
        sizes = [self.latent_dim, self.latent_dim, self.below]
        loc, raw, below = self.project(features).split(sizes, dim=-1)
        scale, _ = scale_and_log(raw, self.scale)
        factor = torch.diag_embed(scale)
        factor[..., self.places[0], self.places[1]] = below * scale[..., self.places[0]]
        return FullNormal(loc, factor)


class FlowPosterior(LocationScale):
    """q(z|x), a diagonal Gaussian transformed by invertible layers that depend on x (Kingma et al. 2016, Algorithm 1).

    Sampling, which also yields the density of the samples, takes one pass per layer. The density at a given z inverts
    the layers, which takes D passes per layer for `autoregressive`.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        context: number of features of x that are an input of each layer.
        kind: autoregressive (inverse autoregressive flow), coupling or spline.
        layers: number of layers.
        hidden: widths of the hidden layers of each network.
        scale: `exp` or `softplus`, of the Gaussian, as in `LocationScale`.

    Raises:
        ConfigError: if the kind or the scale is unknown or a number is out of range.
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
        scale: str = "exp",
    ) -> None:
        super().__init__(feature_shape, latent_dim, scale=scale)
        self.context = Projection(feature_shape, (positive_integer("context", context),))
        self.transforms = FlowTransforms(latent_dim, context, kind=kind, layers=layers, hidden=hidden)

    def forward(self, features: Tensor) -> Flow:
        """Return q(z|x)."""
        base = DiagonalNormal(*self.location_and_scale(features))
        return Flow(base, self.transforms(self.context(features)), fast_inverse=self.transforms.fast_inverse)


class DeterministicPosterior(Posterior):
    """A point mass, the code of a plain autoencoder. It has no density, hence no KL and no ELBO.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
    """

    def __init__(self, feature_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.project = Projection(feature_shape, (latent_dim,))

    def forward(self, features: Tensor) -> Delta:
        """Return the point mass on the code."""
        return Delta(self.project(features))
