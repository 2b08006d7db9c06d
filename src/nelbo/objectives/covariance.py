"""The covariance of the codes pulled to the identity.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. In nats.
"""

from __future__ import annotations

from functools import singledispatch
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from nelbo.errors import choice
from nelbo.numerics.collectives import Shares
from nelbo.objectives.objective import Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Latent, Trace


class DIP(Objective):
    """E_q[-log p(x|z)] + beta KL + lambda_od sum of C_ij^2 + lambda_d sum of (C_ii - 1)^2, Kumar et al. 2018.

    i (their eq. 6): C is the covariance over x of the mean of q(z|x). ii (eq. 7): C is that of z ~ q(z), which has the
    mean covariance of q(z|x) in addition. Both over the batch (of all processes), with 1 / B.

    Args:
        beta: the weight of the KL, at least 0: a number or a schedule; 1 in the paper.
        variant: i or ii.
        lambda_off_diagonal: lambda_od, at least 0: a number or a schedule.
        lambda_diagonal: lambda_d, the same.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range, or another word.
    """

    name: ClassVar[str] = "dip"
    least_batch: ClassVar[int] = 2

    def __init__(
        self,
        *,
        beta: float | Schedule,
        variant: str,
        lambda_off_diagonal: float | Schedule,
        lambda_diagonal: float | Schedule,
        num_samples: int,
    ) -> None:
        super().__init__(num_samples)
        self.beta = as_schedule("beta", beta, minimum=0)
        self.variant = choice("variant", variant, ["i", "ii"])
        self.lambda_off_diagonal = as_schedule("lambda_off_diagonal", lambda_off_diagonal, minimum=0)
        self.lambda_diagonal = as_schedule("lambda_diagonal", lambda_diagonal, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`; the terms `off_diagonal` and `diagonal` are the sums without their weights."""
        reconstruction, kl, terms = elbo_terms(trace)
        (latent,) = trace.latents
        shares = trace.shares
        matrix = covariance_of_means(rows(latent, latent.q.mean, shares))
        if self.variant == "ii":
            matrix = matrix + shares.mean(mean_covariance(latent.q))
        variances = matrix.diagonal()
        off_diagonal = (matrix - variances.diag()).square().sum()
        diagonal = (variances - 1).square().sum()
        beta = self.beta(step)
        total = reconstruction + beta * kl
        total = total + self.lambda_off_diagonal(step) * off_diagonal + self.lambda_diagonal(step) * diagonal
        terms |= {"off_diagonal": off_diagonal.detach(), "diagonal": diagonal.detach(), "beta": beta}
        return Loss(total, terms)

    def check(self, trace: Trace) -> None:
        """q(z|x) needs a mean and a covariance in closed form.

        Raises:
            ConfigError: for a deterministic code, several levels, classes, or a flow.
        """
        self.require_kl(trace)
        self.require_one_level(trace)
        (latent,) = trace.latents
        try:
            mean_covariance(latent.q)
            known = latent.is_continuous
        except NotImplementedError:
            known = False
        if not known:
            hint = "use posterior=diagonal_normal, full_normal or laplace"
            raise self.refuse(f"needs vectors with a mean and a covariance in closed form: {hint}")


def rows(latent: Latent, value: Tensor, shares: Shares) -> Tensor:
    """What each q(z|x) says, (*batch, *event), as (R, D): of the images of all processes; R is B, or S B."""
    batch = len(latent.q.batch_shape)
    if batch == 0:
        value, batch = value.expand(latent.z.shape[1], *value.shape), 1
    return shares.gather(value.flatten(batch), dim=batch - 1).flatten(0, batch - 1)


def covariance_of_means(mean: Tensor) -> Tensor:
    """Over the batch, (D, D), of means (B, D); 0 of a single one."""
    centred = mean - mean.mean(dim=0)
    with torch.autocast(mean.device.type, enabled=False):
        return centred.mT @ centred / len(mean)


@singledispatch
def mean_covariance(q: Distribution) -> Tensor:
    """The mean over this process's batch of the covariance of q(z|x), (D, D).

    Raises:
        NotImplementedError: where there is no closed form.
    """
    raise NotImplementedError(f"no covariance of {type(q).__name__} is known")


@mean_covariance.register
def _(q: Independent) -> Tensor:  # type: ignore[type-arg]
    batch = len(q.batch_shape)
    return q.variance.flatten(batch).reshape(-1, q.event_shape.numel()).mean(dim=0).diag()


@mean_covariance.register
def _(q: MultivariateNormal) -> Tensor:
    with torch.autocast(q.loc.device.type, enabled=False):
        covariance: Tensor = q.covariance_matrix.reshape(-1, *q.event_shape, *q.event_shape).mean(dim=0)
    return covariance
