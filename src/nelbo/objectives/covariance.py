"""DIP-VAE: a penalty on the covariance of the latents.

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
from nelbo.objectives.objective import Loss, Objective, elbo_terms, weighted_mean
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Latent, Trace


class DIP(Objective):
    """DIP-VAE, which moves the covariance C of the latents towards the identity; `objective=dip`.

    E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) + lambda_od sum_{i != j} C_ij^2 + lambda_d sum_i (C_ii - 1)^2: Kumar et
    al. 2018. Reconstruction and KL are in nats; the penalties have no unit. In variant i (their eq. 6) C is the
    covariance over x of the mean of q(z|x). In variant ii (eq. 7) C is the covariance of z ~ q(z), which adds the mean
    covariance of q(z|x). Covariances are over the batch of all processes and divide by B.

    With several levels of latents beta weights the KL of all of them; the penalties apply to the top level alone, and
    are logged with its name.

    Args:
        beta: weight of the KL, at least 0: a number or a schedule; 1 in the paper.
        variant: "i" or "ii".
        lambda_off_diagonal: lambda_od, at least 0: a number or a schedule.
        lambda_diagonal: lambda_d, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or the variant is unknown.
    """

    name: ClassVar[str] = "dip"
    least_batch: ClassVar[int] = 2
    is_mean_over_images = False

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
        """Return the loss at `step`; the terms `off_diagonal` and `diagonal` are the sums without their weights."""
        terms, latent = elbo_terms(trace), trace.latents[0]
        shares = trace.shares
        matrix = covariance_of_means(gather_rows(latent, latent.q.mean, shares))
        if self.variant == "ii":
            matrix = matrix + shares.mean(mean_covariance(latent.q))
        variances = matrix.diagonal()
        off_diagonal = (matrix - variances.diag()).square().sum()
        diagonal = (variances - 1).square().sum()
        beta = self.beta(step)
        total = terms.reconstruction.mean() + weighted_mean(beta, terms.kl)
        total = total + self.lambda_off_diagonal(step) * off_diagonal + self.lambda_diagonal(step) * diagonal
        penalties = {"off_diagonal": off_diagonal, "diagonal": diagonal}
        logged = {trace.at_top(name): penalty.detach() for name, penalty in penalties.items()}
        return Loss(total, {**terms.logged, **logged, "beta": beta})

    def check(self, trace: Trace) -> None:
        """Check that q(z|x) of the top level has a mean and a covariance in closed form.

        Raises:
            ConfigError: for deterministic latents, one-hot codes or a flow.
        """
        self.require_kl(trace)
        latent = trace.latents[0]
        try:
            mean_covariance(latent.q)
            has_covariance = latent.is_continuous
        except NotImplementedError:
            has_covariance = False
        if not has_covariance:
            hint = "use posterior=diagonal_normal, full_normal or laplace"
            raise self.refuse(f"needs a q(z|x) with a mean and a covariance in closed form; {hint}")


def gather_rows(latent: Latent, value: Tensor, shares: Shares) -> Tensor:
    """Gather a statistic of q(z|x) from all processes and reshape it to rows.

    Args:
        latent: the level of latents.
        value: the statistic, such as the mean, (*batch, *event).
        shares: the sizes of the processes' parts of the batch.

    Returns:
        (R, D); R is the number of images of all processes, times S if q differs between samples.
    """
    batch = len(latent.q.batch_shape)
    if batch == 0:
        value, batch = value.expand(latent.z.shape[1], *value.shape), 1
    return shares.gather(value.flatten(batch), dim=batch - 1).flatten(0, batch - 1)


def covariance_of_means(mean: Tensor) -> Tensor:
    """Return the covariance over the batch, (D, D), of means (B, D); 0 for a single image."""
    centred = mean - mean.mean(dim=0)
    with torch.autocast(mean.device.type, enabled=False):
        return centred.mT @ centred / len(mean)


@singledispatch
def mean_covariance(q: Distribution) -> Tensor:
    """Return the covariance of q(z|x), (D, D), averaged over this process's part of the batch.

    Raises:
        NotImplementedError: if there is no closed form.
    """
    raise NotImplementedError(f"{type(q).__name__} has no covariance in closed form")


@mean_covariance.register
def _(q: Independent) -> Tensor:  # type: ignore[type-arg]
    batch = len(q.batch_shape)
    return q.variance.flatten(batch).reshape(-1, q.event_shape.numel()).mean(dim=0).diag()


@mean_covariance.register
def _(q: MultivariateNormal) -> Tensor:
    with torch.autocast(q.loc.device.type, enabled=False):
        covariance: Tensor = q.covariance_matrix.reshape(-1, *q.event_shape, *q.event_shape).mean(dim=0)
    return covariance
