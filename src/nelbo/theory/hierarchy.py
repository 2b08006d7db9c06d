"""Exact likelihoods, posteriors, KLs and ELBOs of linear Gaussian models with several levels of latents.

The levels are numbered from the top: z_1 ~ p(z_1), then z_l ~ p(z_l | z_1, ..., z_l-1), and x ~ p(x | z_1, ..., z_L).

Shapes: B images of P pixels, L levels of D_1, ..., D_L latents. Everything is in float64 and in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.theory.gaussians import LinearGaussian, compose, condition, factorize, select


@dataclass(frozen=True, eq=False)
class Terms:
    """The terms of the negative ELBO of each image, in nats.

    Args:
        reconstruction: E_q -log p(x | z_1, ..., z_L), (B,).
        kl: E_q KL(q(z_l | z_1, ..., z_l-1, x) || p(z_l | z_1, ..., z_l-1)) of each level, from the top, (B, L).
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The ELBO, (B,)."""
        return -self.reconstruction - self.kl.sum(-1)

    def loss(self, betas: Sequence[float]) -> Tensor:
        """Return the reconstruction plus beta_l times the KL of each level, (B,)."""
        return self.reconstruction + self.kl @ self.kl.new_tensor(betas)


@dataclass(frozen=True, eq=False)
class LinearPosterior:
    """A posterior q(z_1|x) q(z_2|z_1,x) ... of linear Gaussians, from the top down.

    Args:
        levels: of each level the distribution of z_l given (x, z_1, ..., z_l-1), concatenated in this order; its
            matrix has the shape (D_l, P + D_1 + ... + D_l-1).

    Raises:
        ConfigError: if the shape of a matrix does not fit.
    """

    levels: tuple[LinearGaussian, ...]

    def __post_init__(self) -> None:
        compose(self.levels)

    @cached_property
    def joint(self) -> LinearGaussian:
        """The distribution of (z_1, ..., z_L), concatenated, given x."""
        return compose(self.levels)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """Draw z_1, ..., z_L for each image: a list of (..., D_l) for x of shape (..., P)."""
        given, zs = x, []
        for level in self.levels:
            zs.append(level.sample(given, generator))
            given = torch.cat([given, zs[-1]], dim=-1)
        return zs

    def log_prob(self, zs: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return log q(z_1, ..., z_L | x), (...), for z_l of shape (..., D_l) and x of shape (..., P)."""
        return self.joint.log_prob(torch.cat(list(zs), dim=-1), x)

    @staticmethod
    def from_bottom_up(levels: Sequence[LinearGaussian]) -> LinearPosterior:
        """Return the same joint distribution as q(z_L|x) q(z_L-1|z_L,x) ... q(z_1|z_2,...,z_L,x).

        Args:
            levels: from the lowest level up, the distribution of z_l given (x, z_L, ..., z_l+1), concatenated in this
                order. Where z_1 depends on z_2 alone, its columns for x are zero.
        """
        sizes = [level.size for level in levels]
        blocks = torch.arange(sum(sizes)).split(sizes)
        return LinearPosterior(factorize(select(compose(levels), torch.cat(blocks[::-1])), sizes[::-1]))


@dataclass(frozen=True, eq=False)
class LinearHierarchy:
    """A linear Gaussian model with L levels of latents.

    Args:
        levels: from the top, the distribution of z_l given (z_1, ..., z_l-1), concatenated in this order; its matrix
            has the shape (D_l, D_1 + ... + D_l-1). In a Markov chain the columns of all but z_l-1 are zero.
        likelihood: the distribution of x given (z_1, ..., z_L); its matrix has the shape (P, D_1 + ... + D_L). Where
            the decoder sees the lowest level only, the other columns are zero.

    Raises:
        ConfigError: if the shape of a matrix does not fit.

    Example:
        >>> from nelbo.theory.gaussians import independent, standard_normal
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> lower = independent(torch.tensor([[2.0]]).double(), 0 * one, one)
        >>> likelihood = independent(torch.tensor([[0.0, 1.0]]).double(), 0 * one, one)
        >>> model = LinearHierarchy((standard_normal(1), lower), likelihood)
        >>> model.marginal.covariance.item()  # 2^2 + 1 + 1
        6.0
        >>> x = torch.tensor([[3.0]]).double()
        >>> bool(torch.isclose(model.terms(x, model.posterior).elbo, model.log_prob(x)))
        True
    """

    levels: tuple[LinearGaussian, ...]
    likelihood: LinearGaussian

    def __post_init__(self) -> None:
        if self.levels[0].inputs:
            raise ConfigError("levels", tuple(self.levels[0].matrix.shape), "the matrix of the top level has no column")
        compose((*self.levels, self.likelihood))

    @property
    def latent_dims(self) -> list[int]:
        """D_1, ..., D_L."""
        return [level.size for level in self.levels]

    @cached_property
    def prior(self) -> LinearGaussian:
        """The distribution of (z_1, ..., z_L), concatenated."""
        return compose(self.levels)

    @cached_property
    def _images_and_latents(self) -> LinearGaussian:
        """The distribution of (x, z_1, ..., z_L), concatenated."""
        joint, latents = compose((*self.levels, self.likelihood)), self.prior.size
        return select(joint, torch.arange(joint.size).roll(-latents))

    @cached_property
    def marginal(self) -> LinearGaussian:
        """p(x)."""
        return select(self._images_and_latents, torch.arange(self.likelihood.size))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (...), for x of shape (..., P)."""
        return self.marginal.log_prob(x, x[..., :0])

    def log_joint(self, x: Tensor, zs: Sequence[Tensor]) -> Tensor:
        """Return log p(x, z_1, ..., z_L), (...), for x of shape (..., P) and z_l of shape (..., D_l)."""
        z = torch.cat(list(zs), dim=-1)
        return self.prior.log_prob(z, z[..., :0]) + self.likelihood.log_prob(x, z)

    def sample(self, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Draw images (N, P) and their latents, a list of (N, D_l)."""
        z, zs = torch.zeros(count, 0, dtype=torch.float64), []
        for level in self.levels:
            zs.append(level.sample(z, generator))
            z = torch.cat([z, zs[-1]], dim=-1)
        return self.likelihood.sample(z, generator), zs

    @cached_property
    def posterior(self) -> LinearPosterior:
        """The exact posterior p(z_1|x) p(z_2|z_1,x) ...; `posterior.joint` is p(z_1, ..., z_L | x)."""
        return LinearPosterior(factorize(condition(self._images_and_latents, self.likelihood.size), self.latent_dims))

    def terms(self, x: Tensor, posterior: LinearPosterior) -> Terms:
        """Return the terms of the negative ELBO for a given q, in closed form.

        Args:
            x: images, (B, P).
            posterior: q.
        """
        kls, known = [], 0
        mean, covariance = posterior.joint.mean(x), posterior.joint.covariance
        for p, q in zip(self.levels, posterior.levels, strict=True):
            z, spread = mean[:, :known], covariance[:known, :known]
            difference = q.matrix[:, x.shape[1] :] - p.matrix
            residual = q.mean(torch.cat([x, z], dim=1)) - p.mean(z)
            variance = q.covariance + difference @ spread @ difference.T
            squares = p.squared_norm(residual) + (p.precision * variance).sum()
            kls.append(0.5 * (squares - p.size + p.log_det - q.log_det))
            known += p.size
        p = self.likelihood
        squares = p.squared_norm(x - p.mean(mean)) + (p.precision * (p.matrix @ covariance @ p.matrix.T)).sum()
        return Terms(0.5 * (squares + p.log_det + p.size * math.log(2 * math.pi)), torch.stack(kls, dim=1))

    def best_posterior(self, betas: Sequence[float] | None = None, *, diagonal: bool = False) -> LinearPosterior:
        """Return the q with the smallest loss, E_q -log p(x|z) + sum_l beta_l KL_l, of this model for every image.

        It is found level by level, from the lowest up. Given all that is above, the best q(z_l | ...) is proportional
        to p(z_l | ...) exp(-E / beta_l), where E is the smallest loss of the levels below as a function of z_1, ...,
        z_l and x. E is quadratic, so every step is a completion of squares. A q with independent latents has the same
        mean, and the variances that are the inverse of the diagonal of the precision.

        Args:
            betas: weights of the KLs, above 0, from the top. Without them all are 1, and q is the exact posterior.
            diagonal: whether the latents of a level are independent given x and the levels above: mean field within
                each level.

        Raises:
            ConfigError: if there is not one positive beta for each level.
        """
        betas = [1.0] * len(self.levels) if betas is None else list(betas)
        if len(betas) != len(self.levels) or not all(beta > 0 for beta in betas):
            raise ConfigError("betas", betas, f"must be {len(self.levels)} numbers above 0, one for each level")
        pixels, likelihood = self.likelihood.size, self.likelihood
        # Rows are coefficients of (1, x, z_1, ..., z_L); energies are E = 1/2 v^T energy v, without constants.
        residual = torch.cat([-likelihood.offset[:, None], torch.eye(pixels).double(), -likelihood.matrix], dim=1)
        energy = residual.T @ likelihood.precision @ residual
        found = []
        for p, beta in zip(reversed(self.levels), reversed(betas), strict=True):
            no_pixels = torch.zeros(p.size, pixels, dtype=torch.float64)
            own = torch.eye(p.size, dtype=torch.float64)
            residual = torch.cat([-p.offset[:, None], no_pixels, -p.matrix, own], dim=1)
            energy = energy + beta * residual.T @ p.precision @ residual
            above, here = slice(0, len(energy) - p.size), slice(len(energy) - p.size, None)
            curvature, cross = energy[here, here], energy[here, above]
            gain = -torch.linalg.solve(curvature, cross)
            inverse = torch.diag(1 / curvature.diagonal()) if diagonal else torch.linalg.inv(curvature)
            found.append(LinearGaussian(gain[:, 1:], gain[:, 0], beta * (inverse + inverse.T) / 2))
            energy = energy[above, above] + cross.T @ gain
        return LinearPosterior(tuple(reversed(found)))

    def mean_field_gap(self) -> Tensor:
        """Return the smallest KL(q || p(z_1, ..., z_L | x)) of a q with independent latents in each level, ().

        It is the same for every image: sum_l 1/2 (sum_i log (S_l^-1)_ii + log det S_l), where S_l is the covariance of
        p(z_l | z_1, ..., z_l-1, x).
        """
        gaps = [level.precision.diagonal().log().sum() + level.log_det for level in self.posterior.levels]
        return 0.5 * torch.stack(gaps).sum()
