"""Optima of linear hierarchical VAEs with a beta for each level and a fixed sigma.

lambda_1 >= lambda_2 >= ... are the eigenvalues of the covariance of the training images. The derivations are in
docs/linear.md.

Shapes: P eigenvalues, L levels of D_1, ..., D_L latents, from the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.errors import ConfigError, choice, number, positive_integer
from nelbo.theory.water_filling import distortion

ALL, LOWEST = "all", "lowest"


@dataclass(frozen=True, eq=False)
class TopDownOptimum:
    """The optimum of a linear hierarchical VAE whose q is evaluated from the top down.

    Args:
        loss: E -log p(x|z) + sum_l beta_l KL_l, nats per image.
        error: E |x - E[x|z]|^2, summed over pixels.
        distortion: E -log p(x|z), nats per image.
        rates: E KL_l of each level, nats per image, (L,).
        levels: the level that codes each eigenvector, 1 to L, or 0 where it is not coded, (P,).
        is_attained: whether some model has this loss. Otherwise it is the infimum: the loss of models comes as close to
            it as one likes while the maps from an upper level to the lowest one grow without bound, or, what is the
            same, the standard deviations of the lowest level given the upper ones vanish.
    """

    loss: float
    error: float
    distortion: float
    rates: Tensor
    levels: Tensor
    is_attained: bool

    @property
    def active(self) -> list[int]:
        """How many eigenvectors each level codes."""
        return [int((self.levels == level).sum()) for level in range(1, len(self.rates) + 1)]


def top_down_optimum(
    eigenvalues: Tensor, latent_dims: Sequence[int], betas: Sequence[float], sigma2: float, decoder_sees: str = LOWEST
) -> TopDownOptimum:
    """Compute the smallest loss E -log p(x|z) + sum_l beta_l KL_l over all linear maps, variances and offsets.

    The model is p(z_1) = N(0, I), p(z_l | z_1, ..., z_l-1) linear in all levels above with a diagonal covariance,
    learned or not, and p(x|z) linear with the covariance sigma^2 I. q(z_l | z_1, ..., z_l-1, x) is linear in x and all
    levels above; whether its covariance is diagonal makes no difference.

    An eigenvector with eigenvalue lambda that is coded at beta has a rate of 1/2 log(lambda / (beta sigma^2)) and a
    squared error of beta sigma^2; it is worth it if lambda > beta sigma^2. The levels with smaller betas take the
    eigenvectors with larger eigenvalues. Every latent can code one eigenvector, but if the decoder sees the lowest
    level only, there are D_L in all.

    Between levels with equal betas only the sum of the rates is determined. It is given to the lower levels here. In
    particular, if all betas are 1, the optimum is that of probabilistic PCA, and the upper levels may be unused.

    Args:
        eigenvalues: of the covariance of the training images, (P,), in any order.
        latent_dims: D_1, ..., D_L.
        betas: weights of the KLs, above 0, from the top.
        sigma2: variance of the likelihood, per pixel.
        decoder_sees: `all` levels, or the `lowest` alone, z_L.

    Raises:
        ConfigError: if a number is out of range, or if there is not one beta for each level.

    Example:
        >>> values = torch.tensor([8.0, 4.0, 2.0], dtype=torch.float64)
        >>> best = top_down_optimum(values, [1, 2], betas=[2.0, 1.0], sigma2=1.0)
        >>> best.levels.tolist(), best.is_attained  # the lowest level is cheaper and has two latents
        ([2, 2, 0], True)
        >>> best = top_down_optimum(values, [1, 2], betas=[1.0, 2.0], sigma2=1.0)
        >>> best.levels.tolist(), best.is_attained
        ([1, 2, 0], False)
    """
    dims, betas = _levels(latent_dims, betas)
    sigma2 = number("sigma2", sigma2, positive=True)
    choice("decoder_sees", decoder_sees, (ALL, LOWEST))
    values, order = eigenvalues.double().clamp(min=0).sort(descending=True, stable=True)
    cheapest_first = sorted(range(len(dims), 0, -1), key=lambda level: betas[level - 1])
    units = [level for level in cheapest_first for _ in range(dims[level - 1])]
    if decoder_sees == LOWEST:
        units = units[: dims[-1]]
    coded_by = torch.tensor([*units, *[0] * len(values)][: len(values)])
    weights = values.new_tensor([math.inf, *betas])[coded_by]
    coded_by = torch.where(values > weights * sigma2, coded_by, 0)
    error = values.minimum(weights * sigma2).sum().item()
    gains = 0.5 * (values / (weights * sigma2)).log()
    rates = torch.stack([gains[coded_by == level].sum() for level in range(1, len(dims) + 1)])
    nats = distortion(error, len(values), sigma2)
    loss = nats + float(rates @ values.new_tensor(betas))
    upper = bool(((coded_by > 0) & (coded_by < len(dims))).any())
    levels = torch.empty_like(coded_by).index_copy(0, order, coded_by)
    return TopDownOptimum(loss, error, nats, rates, levels, decoder_sees == ALL or not upper)


@dataclass(frozen=True, eq=False)
class BottomUpOptimum:
    """The optimum of a linear two-level VAE whose q is evaluated from the bottom up.

    Args:
        loss: E -log p(x|z_2) + beta_1 rate_1 + beta_2 rate_2, nats per image.
        error: E |x - E[x|z_2]|^2, summed over pixels.
        distortion: E -log p(x|z_2), nats per image.
        rates: E KL(q(z_1|z_2) || p(z_1)) and E_q log q(z_2|x) / p(z_2|z_1), nats per image, (2,). The second may be
            negative, because z_1 is drawn from q(z_1|z_2) and so knows z_2.
        variances: eigenvalues of the covariance of z_2 over images and noise, descending, (D_2,).
        lower: whether each of these directions of z_2 depends on x, (D_2,).
        upper: whether each of these directions of z_2 is coded by z_1, (D_2,).
    """

    loss: float
    error: float
    distortion: float
    rates: Tensor
    variances: Tensor
    lower: Tensor
    upper: Tensor


def bottom_up_optimum(
    eigenvalues: Tensor,
    latent_dims: Sequence[int],
    betas: Sequence[float],
    sigma2: float,
    encoder_variance: float,
    prior_variance: float = 1.0,
) -> BottomUpOptimum:
    """Compute the smallest E -log p(x|z_2) + beta_1 rate_1 + beta_2 rate_2 for a fixed variance of q(z_2|x).

    The model is p(z_1) = N(0, I), p(z_2|z_1) = N(A z_1 + a, s^2 I) and p(x|z_2) = N(W z_2 + b, sigma^2 I), with
    q(z_2|x) = N(B x + c, t I) and q(z_1|z_2) = N(C z_2 + d, S). All maps, offsets and S are optimised; s^2, t and
    sigma^2 are fixed. It is the linear hierarchical VAE of Dang et al. 2024 (arXiv 2306.05023), who number the levels
    from below and choose s = sigma.

    A direction of z_2 with variance m over images and noise, which codes an eigenvector with eigenvalue lambda, has

        m = max(t, lambda t / (beta_1 sigma^2))                 if that is above s^2 beta_1 / beta_2 and z_1 has a
                                                                latent for it: then both levels are active,
        m = max(t, (lambda t s^2 / (beta_2 sigma^2))^(1/2))     otherwise: then z_1 is collapsed.

    It does not depend on x if m = t. For large t, z_1 codes even such a direction, which is nothing but noise.

    If a variance of each latent of z_2 is learned in place of t, there is no optimum for beta_1 < beta_2: the loss
    falls without bound as the variances of z_2 grow. For beta_1 >= beta_2 it is `top_down_optimum` with a decoder that
    sees the lowest level.

    Args:
        eigenvalues: of the covariance of the training images, (P,), in any order.
        latent_dims: D_1 and D_2.
        betas: beta_1 and beta_2, above 0.
        sigma2: variance of the likelihood, per pixel.
        encoder_variance: t.
        prior_variance: s^2.

    Raises:
        ConfigError: if a number is out of range, or if there are not two levels.
    """
    dims, betas = _levels(latent_dims, betas)
    if len(dims) != 2:
        raise ConfigError("latent_dims", dims, "must be two numbers, those of z_1 and of z_2")
    sigma2 = number("sigma2", sigma2, positive=True)
    t = number("encoder_variance", encoder_variance, positive=True)
    s2 = number("prior_variance", prior_variance, positive=True)
    values = eigenvalues.double().sort(descending=True).values.clamp(min=0)
    coded = torch.cat([values, values.new_zeros(dims[1])])[: dims[1]]
    threshold = s2 * betas[0] / betas[1]
    both = (coded * t / (betas[0] * sigma2)).clamp(min=t)
    upper = (both > threshold) & (torch.arange(dims[1]) < dims[0])
    variances = torch.where(upper, both, (coded * t * s2 / (betas[1] * sigma2)).sqrt().clamp(min=t))
    unexplained = variances.clamp(max=threshold).where(upper, variances)
    top, below = 0.5 * (variances / unexplained).log(), 0.5 * (unexplained / s2 - 1 + math.log(s2 / t))
    rates = torch.stack([top.sum(), below.sum()])
    error = (coded * t / variances).sum().item() + values[dims[1] :].sum().item()
    nats = distortion(error, len(values), sigma2)
    loss = nats + float(rates @ values.new_tensor(betas))
    return BottomUpOptimum(loss, error, nats, rates, variances, variances > t, upper)


def _levels(latent_dims: Sequence[int], betas: Sequence[float]) -> tuple[list[int], list[float]]:
    dims = [positive_integer(f"latent_dims[{index}]", dim) for index, dim in enumerate(latent_dims)]
    if not dims or len(betas) != len(dims):
        raise ConfigError("betas", list(betas), f"must be {len(dims)} numbers, one for each level of latent_dims")
    return dims, [number(f"betas[{index}]", beta, positive=True) for index, beta in enumerate(betas)]
