"""What one pass of a model produced, computed when asked.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image. Leading dimensions come as (S, B, event...);
x stays (B, event...), and `log_prob` broadcasts it. All log-probabilities and KLs are in nats, summed over the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from nelbo.distributions import Delta


@dataclass(frozen=True, eq=False)
class Latent:
    """One level of latent variables: q(z|x), p(z), and the samples z ~ q.

    Args:
        q: the approximate posterior, batch shape (B,), event shape (D,).
        p: the prior, batch shape ().
        z: samples of q, (S, B, D).
        sampled_log_q: log q(z) where sampling gives it at no cost (a flow), (S, B).
    """

    q: Distribution
    p: Distribution
    z: Tensor
    sampled_log_q: Tensor | None = None

    @property
    def has_density(self) -> bool:
        """Whether log q(z|x) exists; a deterministic code has none, and no KL either."""
        return not isinstance(self.q, Delta)

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

    def score(self) -> Tensor:
        """The gradient of log q(z|x) with respect to z, q's parameters held fixed, (S, B, D)."""
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.q.log_prob(z).sum(), z)
        return gradient


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
    def has_density(self) -> bool:
        """Whether every level has a log q(z|x), and so the trace an ELBO."""
        return all(latent.has_density for latent in self.latents)
