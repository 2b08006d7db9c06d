"""The KL of the ELBO taken apart, for weights of its parts.

Shapes: S Monte Carlo samples, B images of a batch, N images, D latent dimensions. In nats.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from nelbo.errors import choice
from nelbo.numerics.collectives import Shares
from nelbo.objectives.objective import Loss, Objective, elbo_terms
from nelbo.schedules import Schedule, as_schedule
from nelbo.trace import Latent, Trace


class BetaTC(Objective):
    """E_q[-log p(x|z)] + alpha I(x; z) + beta TC(z) + gamma sum over j of KL(q(z_j) || p(z_j)), Chen et al. 2018.

    With q(z) the mean of q(z|x) over the N training images, KL(q(z|x) || p(z)) is on average (their eq. 2)

        E log q(z|x) / q(z)             mutual information of image and code
        + E log q(z) / prod_j q(z_j)    total correlation of the units
        + E log prod_j q(z_j) / p(z)    KL of each unit's marginal, summed

    log q(z) and log q(z_j) are estimated from the batch (of all processes). Departures: the loss is reconstruction +
    KL + (alpha - 1) I + (beta - 1) TC + (gamma - 1) KLs, with the closed KL where there is one, so that it is the exact
    negative ELBO at weights of 1; and `stratified` is the mean of the paper's estimator over which image of the batch
    stands for all those outside, which has less variance and is exact where the batch is the whole set.

    Args:
        alpha: the weight of the mutual information, at least 0: a number or a schedule.
        beta: that of the total correlation.
        gamma: that of the KLs of the marginals.
        estimator: weighted, biased by up to log N in each density (their section 3.1), or stratified (their appendix),
            whose densities have no bias, and more variance.
        num_samples: S.

    Raises:
        ConfigError: for a number out of range, or another word.
    """

    name: ClassVar[str] = "beta_tc"
    least_batch: ClassVar[int] = 2

    def __init__(
        self,
        *,
        alpha: float | Schedule,
        beta: float | Schedule,
        gamma: float | Schedule,
        estimator: str,
        num_samples: int,
    ) -> None:
        super().__init__(num_samples)
        self.alpha = as_schedule("alpha", alpha, minimum=0)
        self.beta = as_schedule("beta", beta, minimum=0)
        self.gamma = as_schedule("gamma", gamma, minimum=0)
        self.log_weights = ESTIMATORS[choice("estimator", estimator, list(ESTIMATORS))]
        # No number until `prepare`, so that a loss without it is none either.
        self.register_buffer("num_examples", torch.tensor(torch.nan))
        self.num_examples: Tensor
        self.given_buffers = ["num_examples"]

    def prepare(self, num_examples: int) -> None:
        """Take N."""
        self.num_examples.fill_(num_examples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`."""
        reconstruction, kl, terms = elbo_terms(trace)
        parts = self.parts(trace)
        weights = {"alpha": self.alpha(step), "beta": self.beta(step), "gamma": self.gamma(step)}
        total = reconstruction + kl
        for weight, part in zip(weights.values(), parts.values(), strict=True):
            total = total + (weight - 1) * part
        return Loss(total, {**terms, **{name: part.detach() for name, part in parts.items()}, **weights})

    def parts(self, trace: Trace) -> dict[str, Tensor]:
        """Estimates of the three parts of the KL, scalars."""
        (latent,) = trace.latents
        assert isinstance(latent.q, Independent) and isinstance(latent.p, Independent)
        shares = trace.shares
        log_weights = shares.own(self.log_weights(shares.total, self.num_examples))
        log_joint, log_marginals = aggregate(of_all_images(latent, shares), latent.z, log_weights)
        log_prior = latent.p.base_dist.log_prob(latent.z).flatten(2)
        return {
            "mutual_information": (latent.log_q - log_joint).mean(),
            "total_correlation": (log_joint - log_marginals.sum(-1)).mean(),
            "dimension_wise_kl": (log_marginals - log_prior).sum(-1).mean(),
        }

    def check(self, trace: Trace) -> None:
        """Units need densities of their own.

        Raises:
            ConfigError: for a deterministic code, several levels, classes, or units that depend on each other.
        """
        self.require_kl(trace)
        self.require_one_level(trace)
        (latent,) = trace.latents
        if not (latent.is_continuous and isinstance(latent.q, Independent) and isinstance(latent.p, Independent)):
            hint = "use posterior=diagonal_normal or laplace, and prior=standard_normal or diagonal_normal"
            raise self.refuse(f"needs vectors of independent units, of q(z|x) and of p(z): {hint}")


def of_all_images(latent: Latent, shares: Shares) -> Independent[Distribution]:
    """q(z|x) of the images of all processes, batch shape (N,) or (S, N)."""
    q = latent.q if latent.q.batch_shape else latent.q.expand(latent.z.shape[1:2])
    assert isinstance(q, Independent)
    if len(shares.sizes) == 1:
        return q
    where, base = len(q.batch_shape) - 1, q.base_dist
    parameters = {name: shares.gather(getattr(base, name), dim=where) for name in base.arg_constraints}
    return Independent(type(base)(**parameters, validate_args=False), len(q.event_shape), validate_args=False)


def aggregate(q: Independent[Distribution], z: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Log q(z), (S, B), and log q(z_j), (S, B, D): sums of q(z|x') and of q(z_j|x') over the N images x'.

    Args:
        q: q(z|x'), batch shape (N,), or (S, N) where each sample has its own.
        z: a sample for each of B images among them, (S, B, *event).
        log_weights: of image x' for the sample of image x, (B, N).
    """
    pairs = q.base_dist.log_prob(z.transpose(0, 1).unsqueeze(2)).flatten(3).transpose(0, 1)  # (S, B, N, D)
    log_joint = (log_weights + pairs.sum(-1)).logsumexp(dim=-1)
    return log_joint, (log_weights.unsqueeze(-1) + pairs).logsumexp(dim=-2)


def weighted(batch: int, num_examples: Tensor) -> Tensor:
    """Minibatch weighted sampling: log of the weights 1 / (N B) of q(z|x'), (B, B)."""
    return -(num_examples * batch).log().expand(batch, batch)


def stratified(batch: int, num_examples: Tensor) -> Tensor:
    """Minibatch stratified sampling: log of the weights of q(z|x'), (B, B), 1 / N where z is of x' itself.

    The B - 1 others share what is left, for all images of which z is not.
    """
    others = ((num_examples - 1) / (num_examples * (batch - 1))).expand(batch, batch)
    own = torch.eye(batch, dtype=torch.bool, device=num_examples.device)
    return torch.where(own, 1 / num_examples, others).log()


ESTIMATORS = {"weighted": weighted, "stratified": stratified}
"""Of log q(z), from a batch."""
