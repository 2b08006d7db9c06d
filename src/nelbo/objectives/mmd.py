"""InfoVAE and WAE: the maximum mean discrepancy (MMD) between the aggregate posterior and the prior.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. Reconstruction and KL in nats; an MMD has no unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from nelbo.errors import ConfigError, choice, number
from nelbo.numerics.collectives import Shares
from nelbo.numerics.precision import finest
from nelbo.objectives.objective import NEEDS_VECTORS, Loss, Objective, elbo_terms, negative_elbo_below, weighted_mean
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace

Kernel = Callable[[Tensor], Tensor]
"""A function of squared distances, or of their ratios to a constant, that returns kernel values of the same shape."""


class MMDObjective(Objective):
    """Base class of objectives with MMD^2(q(z), p(z)).

    It is estimated from the codes of the batch of all processes and the same number of draws of the prior. With several
    levels of latents z is the top level alone, and the term is logged with its name. The levels below then count as a
    part of p(x|z): the reconstruction includes their KLs, with a weight of 1.

    Args:
        mmd_weight: weight of the MMD, at least 0: a number or a schedule.
        kernel: "imq", C / (C + |d|^2), or "rbf", exp(-|d|^2 / C).
        scales: the kernel is summed over C = 2 D scale.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or the kernel is unknown.
    """

    least_batch: ClassVar[int] = 2
    is_mean_over_images = False

    def __init__(self, *, mmd_weight: float | Schedule, kernel: str, scales: Sequence[float], num_samples: int) -> None:
        super().__init__(num_samples)
        self.mmd_weight = as_schedule("mmd_weight", mmd_weight, minimum=0)
        self.kernel = KERNELS[choice("kernel", kernel, list(KERNELS))]
        if isinstance(scales, str) or not isinstance(scales, Sequence) or not scales:
            raise ConfigError("scales", scales, "must be a list of numbers above 0, such as [0.1,1,10]")
        self.scales = [number(f"scales[{index}]", scale, positive=True) for index, scale in enumerate(scales)]

    def mmd(self, trace: Trace) -> Tensor:
        """Return MMD^2(q(z), p(z)) of the top level, a scalar.

        Raises:
            ConfigError: if the batch has a single image.
        """
        latent, shares = trace.latents[0], trace.shares
        if shares.total < self.least_batch:
            raise self.refuse("compares the codes of a batch with each other, and this batch has one image")
        z, draws = latent.z.flatten(2), latent.p.sample(latent.z.shape[:2]).flatten(2)
        return mmd(z, draws, partial(self.similarity, dimensions=z.shape[-1]), shares).mean()

    def similarity(self, squares: Tensor, dimensions: int) -> Tensor:
        """Return the kernel summed over the scales, (...), of squared distances (...) in `dimensions` dimensions D."""
        constants = (2 * dimensions * scale for scale in self.scales)
        return sum((self.kernel(squares / constant) for constant in constants), start=torch.zeros_like(squares))

    def check(self, trace: Trace) -> None:
        """Check that the top level has continuous latents and a prior without parameters, and the others have KLs.

        Raises:
            ConfigError: for one-hot codes, a prior with parameters, which the MMD does not train, or a level below the
                top that is deterministic.
        """
        top, *below = trace.latents
        if not top.is_continuous:
            raise self.refuse(NEEDS_VECTORS)
        self.require_standard_normal(top, "uses an MMD, which does not train the prior")
        if not all(latent.has_kl for latent in below):
            raise self.refuse("needs the KLs of the levels below the top, and a deterministic one has none")


class InfoVAE(MMDObjective):
    """InfoVAE, the ELBO with an MMD between aggregate posterior and prior; `objective=info`.

    E_q[-log p(x|z)] + (1 - alpha) KL(q(z|x) || p(z)) + mmd_weight MMD^2(q(z), p(z)): Zhao et al. 2019, where mmd_weight
    is alpha + lambda - 1. alpha = 1 is their MMD-VAE, in which the mutual information of image and code has no cost;
    alpha = 0 and mmd_weight = 0 is the negative ELBO.

    Args:
        alpha: at most 1, negative values included: a number or a schedule.
        mmd_weight: weight of the MMD, at least 0: a number or a schedule.
        kernel: see `MMDObjective`.
        scales: see `MMDObjective`.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or the kernel is unknown.
    """

    name: ClassVar[str] = "info"

    def __init__(
        self,
        *,
        alpha: float | Schedule,
        mmd_weight: float | Schedule,
        kernel: str,
        scales: Sequence[float],
        num_samples: int,
    ) -> None:
        super().__init__(mmd_weight=mmd_weight, kernel=kernel, scales=scales, num_samples=num_samples)
        self.alpha = as_schedule("alpha", alpha, minimum=-math.inf)
        if (largest := max(self.alpha(0), self.alpha(math.inf))) > 1:
            raise ConfigError("alpha", largest, "must be at most 1, where the weight of the KL is 0")

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        mmd, alpha, weight = self.mmd(trace), self.alpha(step), self.mmd_weight(step)
        kl = weighted_mean(1 - alpha, trace.latents[0].kl)
        total = negative_elbo_below(trace).mean() + kl + weight * mmd
        logged = elbo_terms(trace).logged | {trace.at_top("mmd"): mmd.detach()}
        return Loss(total, {**logged, "alpha": alpha, "mmd_weight": weight})

    def check(self, trace: Trace) -> None:
        """Check what `MMDObjective` checks, and that q(z|x) has a density.

        Raises:
            ConfigError: for deterministic latents, one-hot codes, or a prior with parameters.
        """
        self.require_kl(trace)
        super().check(trace)


class WAE(MMDObjective):
    """The Wasserstein autoencoder with an MMD, WAE-MMD; `objective=wae`.

    E_q[-log p(x|z)] + mmd_weight MMD^2(q(z), p(z)): Tolstikhin et al. 2018, Algorithm 2. The latents may be
    deterministic, as in the paper, or have a density; the term `nelbo` is logged in the second case. The squared error
    of the paper is, up to a constant, likelihood=gaussian_fixed with sigma = 1 / sqrt(2).

    Args:
        mmd_weight: weight of the MMD, at least 0: a number or a schedule.
        kernel: see `MMDObjective`.
        scales: see `MMDObjective`.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or the kernel is unknown.
    """

    name: ClassVar[str] = "wae"

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        mmd, weight = self.mmd(trace), self.mmd_weight(step)
        total = negative_elbo_below(trace).mean() + weight * mmd
        logged = elbo_terms(trace).logged | {trace.at_top("mmd"): mmd.detach()}
        return Loss(total, {**logged, "mmd_weight": weight})


def mmd(z: Tensor, draws: Tensor, similarity: Kernel, shares: Shares | None = None) -> Tensor:
    """Return the unbiased estimate of MMD^2 between two samples, (...); it can be negative.

    Gretton et al. 2012, Lemma 6.

    Args:
        z: samples of the first distribution, (..., B, D).
        draws: samples of the second distribution, (..., B, D).
        similarity: the kernel as a function of squared distances.
        shares: the sizes of the processes' parts of both samples; None for one process. The mean over processes of the
            returned values, weighted by size, is the MMD^2 of the whole samples.
    """
    shares = shares or Shares((z.shape[-2],))
    all_draws = shares.gather(draws, dim=draws.ndim - 2)

    def pairs(one: Tensor, other: Tensor) -> Tensor:
        return similarity(squared_distances(one, other))

    def within(one: Tensor, everything: Tensor) -> Tensor:
        matrix = pairs(one, everything)
        rows, size = matrix.shape[-2:]
        own = matrix.diagonal(offset=shares.start, dim1=-2, dim2=-1).sum(-1)
        return (matrix.sum((-2, -1)) - own) / (rows * (size - 1))

    all_z = shares.gather(z, dim=z.ndim - 2)
    return within(z, all_z) + within(draws, all_draws) - 2 * pairs(z, all_draws).mean((-2, -1))


def squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """Return |x_a - y_b|^2 of all pairs, (..., A, B), as |x|^2 + |y|^2 - 2 x y without a tensor (..., A, B, D).

    The terms cancel where two points are close compared with their distance from 0. They are computed in float64, if
    the device has it, around the mean of `other`.

    Args:
        one: points x, (..., A, D).
        other: points y, (..., B, D).
    """
    x, y = finest(one), finest(other)
    centre = y.detach().mean(-2, keepdim=True)
    x, y = x - centre, y - centre
    squares = (x @ y.mT).mul_(-2).add_(x.square().sum(-1).unsqueeze(-1)).add_(y.square().sum(-1).unsqueeze(-2))
    return squares.clamp_(min=0).to(one.dtype)


def imq(ratio: Tensor) -> Tensor:
    """Return the inverse multiquadratic kernel C / (C + |d|^2).

    Args:
        ratio: |d|^2 / C, any shape.
    """
    return 1 / (1 + ratio)


def rbf(ratio: Tensor) -> Tensor:
    """Return the radial basis function kernel exp(-|d|^2 / C).

    Args:
        ratio: |d|^2 / C, any shape.
    """
    return (-ratio).exp()


KERNELS: dict[str, Kernel] = {"imq": imq, "rbf": rbf}
