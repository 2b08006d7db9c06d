"""What one pass of a model produced, computed when asked.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image. Leading dimensions come as (S, B, event...);
x stays (B, event...), and `log_prob` broadcasts it. All log-probabilities and KLs are in nats, summed over the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from nelbo.distributions import Delta, RelaxedOneHot, is_discrete
from nelbo.numerics.collectives import Shares


def unit_kl(q: Distribution, p: Distribution) -> Tensor:
    """KL(q_i || p_i) of each unit, (*batch, D), in nats; D counts all elements of an event, or its N variables.

    Raises:
        NotImplementedError: where the units depend on each other, or there is no closed form.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError("units that depend on each other have only a KL together")
    batch = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
    return kl_divergence(q.base_dist, p.base_dist).flatten(len(batch))


@dataclass(frozen=True, eq=False)
class Latent:
    """One level of latent variables: q(z|x), p(z), and the samples z ~ q.

    Args:
        q: the approximate posterior. Its batch shape is (B,), or () where it does not depend on x, or (S, B) where it
            depends on samples of another level. Its event is (D,), (C, H, W), or of N one-hot codes among K (N, K).
        p: the prior, batch shape () or those of q.
        z: samples of q, (S, B, *event).
        sampled_log_q: log q(z) where sampling gives it at no cost (a flow), (S, B).
    """

    q: Distribution
    p: Distribution
    z: Tensor
    sampled_log_q: Tensor | None = None

    @property
    def has_kl(self) -> bool:
        """Whether KL(q(z|x) || p(z)) exists, and so an ELBO: not for a deterministic code among vectors."""
        return not isinstance(self.q, Delta)

    @property
    def has_density(self) -> bool:
        """Whether log q(z|x) of the samples exists: not for a deterministic code, nor for relaxed classes."""
        return not isinstance(self.q, Delta | RelaxedOneHot)

    @property
    def is_continuous(self) -> bool:
        """Whether z are real numbers and no one-hot codes."""
        return not is_discrete(self.q)

    def over_examples(self, value: Tensor, event_dimensions: int = 1) -> Tensor:
        """What is of q or p, (*batch, *event), as (B, *event): the mean over S where it differs between samples."""
        if value.ndim - event_dimensions == 2:
            value = value.mean(dim=0)
        return value.expand(self.z.shape[1], *value.shape[value.ndim - event_dimensions :])

    @cached_property
    def log_q(self) -> Tensor:
        """Log q(z|x), (S, B), in nats."""
        return self.q.log_prob(self.z) if self.sampled_log_q is None else self.sampled_log_q

    @cached_property
    def log_p(self) -> Tensor:
        """Log p(z), (S, B), in nats."""
        return self.p.log_prob(self.z)

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), (S, B), in nats: the closed form where one is registered, else log q(z|x) - log p(z)."""
        try:
            return kl_divergence(self.q, self.p).expand(self.z.shape[:2])
        except NotImplementedError:
            return self.log_q - self.log_p

    @cached_property
    def unit_kl(self) -> Tensor:
        """The KL of each unit, (B, D), in nats, for q and p of independent units with a closed form.

        They sum to the mean of `kl` over S.

        Raises:
            NotImplementedError: where the units depend on each other, or there is no closed form.
        """
        return self.over_examples(unit_kl(self.q, self.p))

    def score(self) -> Tensor:
        """The gradient of log q(z|x) with respect to z, q's parameters held fixed, (S, B, *event)."""
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.q.log_prob(z).sum(), z)
        return gradient

    def path_log_q(self) -> Tensor:
        """Log q(z|x), (S, B), with the gradient of the path alone: `score()` to z, none to q's own parameters.

        What is left out is the score function, whose expectation is 0 (Roeder et al. 2017).
        """
        if not self.z.requires_grad:  # in evaluation: no flow is inverted for a gradient that nobody takes
            return self.log_q.detach()
        path = (self.score() * self.z).flatten(2).sum(-1)
        return self.log_q.detach() + (path - path.detach())

    def own_log_q(self) -> Tensor:
        """Log q(z|x), (S, B), with the rest of the gradient: that to q's own parameters at fixed z, none to z."""
        if not self.z.requires_grad:
            return self.log_q.detach()
        log_q: Tensor = self.q.log_prob(self.z.detach())
        return log_q

    def scale_gradient(self, factor: Tensor) -> None:
        """Multiply what comes back to each sample of z by `factor`, (S, B), before it goes on to q's parameters.

        For good, so once a trace.
        """
        if self.z.requires_grad:  # not in evaluation
            self.z.register_hook(lambda gradient: gradient * factor.reshape(*factor.shape, *[1] * (gradient.ndim - 2)))


@dataclass(frozen=True, eq=False)
class Trace:
    """A batch, p(x|z) at the samples of z, and the latents, top first.

    Args:
        x: the batch, (B, C, H, W), in [0, 1].
        px: p(x|z), batch shape (S, B), event shape (C, H, W).
        latents: one `Latent` a level.
    """

    x: Tensor
    px: Distribution
    latents: tuple[Latent, ...]

    @cached_property
    def shares(self) -> Shares:
        """How many images of the batch each process has; all that train together must ask."""
        return Shares.of(self.x)

    @cached_property
    def log_px(self) -> Tensor:
        """Log p(x|z), (S, B), in nats."""
        return self.px.log_prob(self.x)

    @cached_property
    def kl(self) -> Tensor:
        """The KL summed over the levels, (S, B), in nats."""
        return sum((latent.kl for latent in self.latents[1:]), start=self.latents[0].kl)

    @cached_property
    def log_weight(self) -> Tensor:
        """Log p(x, z) - log q(z|x), (S, B), in nats: the importance weights of Burda et al. 2016, eq. 8."""
        return self.log_px + sum((latent.log_p - latent.log_q for latent in self.latents), start=torch.zeros(()))

    @property
    def has_kl(self) -> bool:
        """Whether every level has a KL, and so the trace an ELBO."""
        return all(latent.has_kl for latent in self.latents)

    @property
    def has_density(self) -> bool:
        """Whether every level has log q(z|x) of its samples, and so the trace importance weights."""
        return all(latent.has_density for latent in self.latents)
