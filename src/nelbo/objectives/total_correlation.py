"""beta-TCVAE: the KL of the ELBO decomposed into three terms with separate weights.

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
    """beta-TCVAE, which weights the three terms of the KL separately; `objective=beta_tc`.

    E_q[-log p(x|z)] + alpha I(x; z) + beta TC(z) + gamma sum_j KL(q(z_j) || p(z_j)), in nats: Chen et al. 2018. With
    q(z) the mean of q(z|x) over the N training images, the mean of KL(q(z|x) || p(z)) is (their eq. 2)

        E log q(z|x) / q(z)             mutual information of image and code
        + E log q(z) / prod_j q(z_j)    total correlation of the units
        + E log prod_j q(z_j) / p(z)    KL of each unit's marginal, summed

    log q(z) and log q(z_j) are estimated from the batch of all processes. Differences from the paper:

    - The loss is computed as reconstruction + KL + (alpha - 1) I + (beta - 1) TC + (gamma - 1) sum_j KL_j, with the KL
      in closed form if there is one, so that it is the exact negative ELBO if all weights are 1.
    - The paper's stratified estimator lets one image of the batch represent all images outside the batch. Here it is
      averaged over the choice of that image, which reduces its variance and is exact if the batch is the whole set.

    With several levels of latents the decomposed KL is that of the top level alone, and its terms are logged with the
    name of the level; the KLs of the other levels have a weight of 1.

    Args:
        alpha: weight of the mutual information, at least 0: a number or a schedule.
        beta: weight of the total correlation, at least 0: a number or a schedule.
        gamma: weight of the KLs of the marginals, at least 0: a number or a schedule.
        estimator: "weighted", with a bias of up to log N in each log-density (their section 3.1), or "stratified"
            (their appendix), with unbiased densities of higher variance.
        num_samples: S.

    Raises:
        ConfigError: if a number is out of range or the estimator is unknown.
    """

    name: ClassVar[str] = "beta_tc"
    least_batch: ClassVar[int] = 2
    is_mean_over_images = False

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
        # NaN until `prepare` is called, so that the loss is NaN if it never is.
        self.register_buffer("num_examples", torch.tensor(torch.nan))
        self.num_examples: Tensor
        self.given_buffers = ["num_examples"]

    def prepare(self, num_examples: int) -> None:
        """Set N, the number of training images."""
        self.num_examples.fill_(num_examples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss at `step`."""
        terms, parts = elbo_terms(trace), self.parts(trace)
        weights = {"alpha": self.alpha(step), "beta": self.beta(step), "gamma": self.gamma(step)}
        total = terms.reconstruction.mean() + terms.kl.mean()
        for weight, part in zip(weights.values(), parts.values(), strict=True):
            total = total + (weight - 1) * part
        logged = {trace.at_top(name): part.detach() for name, part in parts.items()}
        return Loss(total, {**terms.logged, **logged, **weights})

    def parts(self, trace: Trace) -> dict[str, Tensor]:
        """Return estimates of the three terms of the KL of the top level by name, scalars in nats."""
        latent = trace.latents[0]
        assert isinstance(latent.q, Independent) and isinstance(latent.p, Independent)
        shares = trace.shares
        log_weights = shares.own(self.log_weights(shares.total, self.num_examples))
        log_joint, log_marginals = aggregate(gather_posteriors(latent, shares), latent.z, log_weights)
        log_prior = latent.p.base_dist.log_prob(latent.z).flatten(2)
        return {
            "mutual_information": (latent.log_q - log_joint).mean(),
            "total_correlation": (log_joint - log_marginals.sum(-1)).mean(),
            "dimension_wise_kl": (log_marginals - log_prior).sum(-1).mean(),
        }

    def check(self, trace: Trace) -> None:
        """Check that q(z|x) and p(z) of the top level are densities that factorise over units.

        Raises:
            ConfigError: for deterministic latents, one-hot codes, or units that depend on each other.
        """
        self.require_kl(trace)
        latent = trace.latents[0]
        if not (latent.is_continuous and isinstance(latent.q, Independent) and isinstance(latent.p, Independent)):
            hint = "use posterior=diagonal_normal or laplace, and prior=standard_normal or diagonal_normal"
            raise self.refuse(f"needs continuous latents with independent units in q(z|x) and p(z); {hint}")


def gather_posteriors(latent: Latent, shares: Shares) -> Independent[Distribution]:
    """Return q(z|x) of the images of all processes, batch shape (N,) or (S, N)."""
    q = latent.q if latent.q.batch_shape else latent.q.expand(latent.z.shape[1:2])
    assert isinstance(q, Independent)
    if len(shares.sizes) == 1:
        return q
    image_dim, base = len(q.batch_shape) - 1, q.base_dist
    parameters = {name: shares.gather(getattr(base, name), dim=image_dim) for name in base.arg_constraints}
    return Independent(type(base)(**parameters, validate_args=False), len(q.event_shape), validate_args=False)


def aggregate(q: Independent[Distribution], z: Tensor, log_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return log q(z), (S, B), and log q(z_j), (S, B, D), in nats: weighted sums over the images x' of the batch.

    Args:
        q: q(z|x'), batch shape (N,), or (S, N) if q differs between samples.
        z: samples for B of these images, (S, B, *event).
        log_weights: log of the weight of image x' for the sample of image x, (B, N).
    """
    pairs = q.base_dist.log_prob(z.transpose(0, 1).unsqueeze(2)).flatten(3).transpose(0, 1)  # (S, B, N, D)
    log_joint = (log_weights + pairs.sum(-1)).logsumexp(dim=-1)
    return log_joint, (log_weights.unsqueeze(-1) + pairs).logsumexp(dim=-2)


def weighted(batch: int, num_examples: Tensor) -> Tensor:
    """Return the log-weights of minibatch weighted sampling, (B, B): each q(z|x') has weight 1 / (N B)."""
    return -(num_examples * batch).log().expand(batch, batch)


def stratified(batch: int, num_examples: Tensor) -> Tensor:
    """Return the log-weights of minibatch stratified sampling, (B, B).

    q(z|x') has weight 1 / N if z was drawn from it; the B - 1 others share the remaining weight (N - 1) / N equally.
    """
    others = ((num_examples - 1) / (num_examples * (batch - 1))).expand(batch, batch)
    own = torch.eye(batch, dtype=torch.bool, device=num_examples.device)
    return torch.where(own, 1 / num_examples, others).log()


ESTIMATORS = {"weighted": weighted, "stratified": stratified}
"""Estimators of log q(z) by name: functions of the batch size and N that return log-weights, (B, B)."""
