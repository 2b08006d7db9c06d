"""The negative ELBO, and the reconstruction term alone.

Shapes: S Monte Carlo samples, B batch. In nats, summed over pixels and latents, averaged over S and B at the end.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from nelbo.distributions import StandardNormal
from nelbo.objectives.objective import NEEDS_VECTORS, Loss, Objective, Weight, elbo_terms, mean_weight, weighted_mean
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import LOG_BETA, Trace


class NegativeELBO(Objective):
    """The negative ELBO with a weight on the KL; `objective=elbo`.

    E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)), in nats: Kingma & Welling 2014, eq. 3; with beta, Higgins et al. 2017,
    eq. 4. The loss is the negative ELBO if beta = 1. The logged term `nelbo` is always that of beta = 1. With several
    levels of latents the KL is the sum of theirs.

    Example:
        >>> import torch
        >>> from nelbo.distributions import DiagonalNormal, StandardNormal
        >>> from nelbo.trace import Latent
        >>> q = DiagonalNormal(torch.ones(2, 3), torch.ones(2, 3))  # B = 2, D = 3
        >>> px = DiagonalNormal(torch.zeros(1, 2, 4), torch.ones(1, 2, 4))  # S = 1
        >>> latent = Latent(q, StandardNormal(torch.zeros(3)), q.rsample((1,)))
        >>> loss = NegativeELBO(beta=4.0, num_samples=1)(Trace(torch.zeros(2, 4), px, (latent,)), step=0)
        >>> loss.terms["kl"], loss.terms["beta"]
        (tensor(1.5000), 4.0)
        >>> torch.allclose(loss.total, loss.terms["reconstruction"] + 4 * loss.terms["kl"])
        True

    Args:
        beta: weight of the KL, at least 0: a number or a schedule.
        num_samples: S.

    Raises:
        ConfigError: if `beta` or `num_samples` is invalid.
    """

    name: ClassVar[str] = "elbo"
    weighs_each_image = True
    sums_over_classes = True
    weighs_examples = True

    def __init__(self, *, beta: float | Schedule, num_samples: int) -> None:
        super().__init__(num_samples)
        self.beta = as_schedule("beta", beta, minimum=0)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        terms, beta = elbo_terms(trace), self.kl_weight(trace, step)
        penalty = self.penalty(trace, terms.kl, step)
        total = trace.mean(terms.reconstruction) + weighted_mean(beta, penalty, trace)
        return Loss(total, {**terms.logged, "beta": mean_weight(beta)})

    def kl_weight(self, trace: Trace, step: float) -> Weight:
        """Return beta: a number, or one for each example, (B,), where the model is trained for many betas.

        A subclass may return another entry of `trace.context`.
        """
        own = trace.context.get(LOG_BETA)
        return self.beta(step) if own is None else self.beta(step) * own.exp()

    def penalty(self, trace: Trace, kl: Tensor, step: float) -> Tensor:
        """Return the term that beta weights, (S, B), in nats: the KL of all levels, or what a subclass has instead.

        A subclass may return a scalar, if its penalty is no mean over examples; a weight that differs by example then
        acts by its mean.
        """
        return kl

    def check(self, trace: Trace) -> None:
        """Check that q(z|x) has a density.

        Raises:
            ConfigError: for deterministic latents.
        """
        self.require_kl(trace)


class Reconstruction(Objective):
    """The reconstruction term E_q[-log p(x|z)] alone, in nats; `objective=reconstruction`.

    It is the loss of a plain autoencoder, and not a bound on the likelihood.

    Args:
        num_samples: S.

    Raises:
        ConfigError: if `num_samples` is invalid.
    """

    name: ClassVar[str] = "reconstruction"
    weighs_examples = True

    def __init__(self, *, num_samples: int) -> None:
        super().__init__(num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss, which does not depend on `step`."""
        reconstruction = -trace.mean(trace.log_px)
        return Loss(reconstruction, {"reconstruction": reconstruction.detach()})

    def check(self, trace: Trace) -> None:
        """Check that the latents are continuous and the prior has no parameters, which would not be trained.

        Raises:
            ConfigError: for one-hot codes, and for a prior with parameters, as the levels below the top have.
        """
        if not all(latent.is_continuous for latent in trace.latents):
            raise self.refuse(NEEDS_VECTORS)
        top, *below = trace.latents
        if any(not isinstance(latent.p, StandardNormal) for latent in below):
            raise self.refuse("has no KL, so nothing would train the priors of the lower levels; use objective=elbo")
        self.require_standard_normal(top, "has no KL, so nothing would train the prior")
