"""The aggregate posterior pulled to the prior by the maximum mean discrepancy of their samples.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. Losses in nats; an MMD has no unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from nelbo.errors import ConfigError, choice, number
from nelbo.numerics.collectives import Shares
from nelbo.objectives.objective import NEEDS_VECTORS, Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Trace

Kernel = Callable[[Tensor], Tensor]


class MMDObjective(Objective):
    """What has MMD^2(q(z), p(z)), estimated from the batch (of all processes) and as many draws of the prior.

    Args:
        mmd_weight: its weight, at least 0: a number or a schedule.
        kernel: imq, C / (C + |d|^2), or rbf, exp(-|d|^2 / C).
        scales: the kernel is summed over C = 2 D scale.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range, or another word.
    """

    least_batch: ClassVar[int] = 2

    def __init__(self, *, mmd_weight: float | Schedule, kernel: str, scales: Sequence[float], num_samples: int) -> None:
        super().__init__(num_samples)
        self.mmd_weight = as_schedule("mmd_weight", mmd_weight, minimum=0)
        self.kernel = KERNELS[choice("kernel", kernel, list(KERNELS))]
        if isinstance(scales, str) or not isinstance(scales, Sequence) or not scales:
            raise ConfigError("scales", scales, "must be a list of numbers above 0, such as [0.1,1,10]")
        self.scales = [number(f"scales[{index}]", scale, positive=True) for index, scale in enumerate(scales)]

    def mmd(self, trace: Trace) -> Tensor:
        """MMD^2(q(z), p(z)), scalar.

        Raises:
            ConfigError: for a single image.
        """
        (latent,) = trace.latents
        shares = trace.shares
        if shares.total < self.least_batch:
            raise self.refuse("compares the codes of a batch with each other, and here is a batch of one image")
        z, draws = latent.z.flatten(2), latent.p.sample(latent.z.shape[:2]).flatten(2)
        return mmd(z, draws, self.similarity, shares).mean()

    def similarity(self, difference: Tensor) -> Tensor:
        """The kernel, (...), of differences (..., D)."""
        squares = difference.square().sum(-1)
        constants = (2 * difference.shape[-1] * scale for scale in self.scales)
        return sum((self.kernel(squares / constant) for constant in constants), start=torch.zeros_like(squares))

    def check(self, trace: Trace) -> None:
        """The MMD trains q and no prior.

        Raises:
            ConfigError: for a prior with parameters, or several levels.
        """
        self.require_one_level(trace)
        if not trace.latents[0].is_continuous:
            raise self.refuse(NEEDS_VECTORS)
        self.require_standard_normal(trace, "has an MMD, which would not train a prior")


class InfoVAE(MMDObjective):
    """E_q[-log p(x|z)] + (1 - alpha) KL(q(z|x) || p(z)) + mmd_weight MMD^2(q(z), p(z)), Zhao et al. 2019.

    mmd_weight is the paper's alpha + lambda - 1. alpha = 1 is their MMD-VAE, which pays nothing for what a code says of
    its image; alpha = 0 with mmd_weight = 0 the ELBO.

    Args:
        alpha: at most 1, also below 0: a number or a schedule.
        mmd_weight: see above.
        kernel: see `MMDObjective`.
        scales: see `MMDObjective`.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range, or another word.
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
        if (most := max(self.alpha(0), self.alpha(math.inf))) > 1:
            raise ConfigError("alpha", most, "must be at most 1, where the KL has no weight")

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, kl, terms = elbo_terms(trace)
        mmd, alpha, weight = self.mmd(trace), self.alpha(step), self.mmd_weight(step)
        total = reconstruction + (1 - alpha) * kl + weight * mmd
        return Loss(total, {**terms, "mmd": mmd.detach(), "alpha": alpha, "mmd_weight": weight})

    def check(self, trace: Trace) -> None:
        """It has a KL.

        Raises:
            ConfigError: also for a deterministic code.
        """
        self.require_kl(trace)
        super().check(trace)


class WAE(MMDObjective):
    """E_q[-log p(x|z)] + mmd_weight MMD^2(q(z), p(z)), WAE-MMD: Tolstikhin et al. 2018, Algorithm 2.

    For codes that are points, as in the paper, or have a distribution; the term `nelbo` is there in the second case.
    The paper's cost, the squared error, is that of gaussian_fixed with sigma = 1 / sqrt 2, up to a constant.
    """

    name: ClassVar[str] = "wae"

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, _, terms = elbo_terms(trace)
        mmd, weight = self.mmd(trace), self.mmd_weight(step)
        return Loss(reconstruction + weight * mmd, {**terms, "mmd": mmd.detach(), "mmd_weight": weight})


def mmd(z: Tensor, draws: Tensor, similarity: Kernel, shares: Shares | None = None) -> Tensor:
    """MMD^2 of two sets of vectors, (...): without bias, so below 0 at times (Gretton et al. 2012, Lemma 6).

    Args:
        z: (..., B, D).
        draws: as many of the other distribution.
        similarity: the kernel, (...), of differences (..., D).
        shares: of the processes that have parts of both sets. The mean over these of what each returns, by size, is the
            MMD^2 of the whole sets; None for one process.
    """
    shares = shares or Shares((z.shape[-2],))
    all_draws = shares.gather(draws, dim=draws.ndim - 2)

    def pairs(one: Tensor, other: Tensor) -> Tensor:
        return similarity(one.unsqueeze(-2) - other.unsqueeze(-3))

    def within(one: Tensor, everything: Tensor) -> Tensor:
        matrix = pairs(one, everything)
        rows, size = matrix.shape[-2:]
        own = matrix.diagonal(offset=shares.start, dim1=-2, dim2=-1).sum(-1)
        return (matrix.sum((-2, -1)) - own) / (rows * (size - 1))

    all_z = shares.gather(z, dim=z.ndim - 2)
    return within(z, all_z) + within(draws, all_draws) - 2 * pairs(z, all_draws).mean((-2, -1))


def imq(ratio: Tensor) -> Tensor:
    """Inverse multiquadratics, C / (C + |d|^2), of |d|^2 / C."""
    return 1 / (1 + ratio)


def rbf(ratio: Tensor) -> Tensor:
    """Radial basis functions, exp(-|d|^2 / C), of |d|^2 / C."""
    return (-ratio).exp()


KERNELS: dict[str, Kernel] = {"imq": imq, "rbf": rbf}
