"""The result of one pass of a model, with log-probabilities and KLs computed on demand.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image. Samples of z have shape (S, B, *event); x has
shape (B, C, H, W), and `log_prob` broadcasts it over S. Log-probabilities and KLs are sums over the event, in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from nelbo.distributions import Delta, RelaxedOneHot, is_discrete, log_prob_at_sample
from nelbo.numerics.collectives import Shares

LOG_BETA = "log_beta"
"""The entry of a context with the logarithm of each image's beta, (B,), where a model is trained for many of them."""

TOP_LEVEL = "top_level_"
"""Prefix of the names of what was measured on the top level alone of a model with several."""


def element_kl(q: Distribution, p: Distribution) -> Tensor:
    """Return KL(q_i || p_i) of each latent element i in closed form, (*batch, *elements), in nats.

    `elements` is the event shape, (D,) or (C, h, w). For N one-hot codes of K classes it is (N,).

    Args:
        q: the approximate posterior.
        p: the prior. The batch shapes of q and p broadcast to `batch`.

    Raises:
        NotImplementedError: if the elements are dependent, or no closed form is registered.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError("the KL of each unit needs independent units: q and p must both be `Independent`")
    return kl_divergence(q.base_dist, p.base_dist)


def unit_kl(q: Distribution, p: Distribution) -> Tensor:
    """Return KL(q_i || p_i) of each latent unit i in closed form, (*batch, U), in nats.

    A unit is a dimension of a vector (D,), a channel of a map (C, h, w), whose KL is summed over space, or one of N
    one-hot codes.

    Args:
        q: the approximate posterior.
        p: the prior. The batch shapes of q and p broadcast to `batch`.

    Raises:
        NotImplementedError: if the units are dependent, or no closed form is registered.
    """
    kl = element_kl(q, p)
    batch = len(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
    return kl.flatten(batch + 1).sum(-1) if kl.ndim > batch + 1 else kl


def unit_names(sizes: Sequence[int]) -> list[list[str]]:
    """Return the names of the units of each level, by which tables of single units have their columns.

    Args:
        sizes: number of units of each level, top first.

    Example:
        >>> unit_names([2]), unit_names([1, 2])
        ([['unit_0', 'unit_1']], [['level_1_unit_0'], ['level_2_unit_0', 'level_2_unit_1']])
    """
    starts = [""] if len(sizes) == 1 else [f"level_{level}_" for level in range(1, len(sizes) + 1)]
    return [[f"{start}unit_{unit}" for unit in range(size)] for start, size in zip(starts, sizes, strict=True)]


@dataclass(frozen=True, eq=False)
class Latent:
    """One level of latent variables: q(z|x), p(z), and samples z ~ q.

    Args:
        q: the approximate posterior. Its batch shape is (B,), or () if it does not depend on x, or (S, B) if it depends
            on samples of another level. Its event shape is (D,), (C, H, W), or (N, K) for N one-hot codes of K classes.
        p: the prior. Its batch shape is (), (B,) or (S, B).
        z: samples of q, (S, B, *event).
        sampled_log_q: log q(z|x) of the samples, (S, B), in nats, if it was computed with them (by a flow).
    """

    q: Distribution
    p: Distribution
    z: Tensor
    sampled_log_q: Tensor | None = None

    @property
    def has_kl(self) -> bool:
        """Whether KL(q(z|x) || p(z)) is defined: false for a deterministic code of real numbers."""
        return not isinstance(self.q, Delta)

    @property
    def has_density(self) -> bool:
        """Whether log q(z|x) of the samples is defined: false for a deterministic code and for relaxed classes."""
        return not isinstance(self.q, Delta | RelaxedOneHot)

    @property
    def is_continuous(self) -> bool:
        """Whether z consists of real numbers, as opposed to one-hot codes."""
        return not is_discrete(self.q)

    def over_examples(self, value: Tensor, event_dimensions: int = 1) -> Tensor:
        """Return a statistic of q or p with one value per example, (B, *event).

        Args:
            value: the statistic, (*batch, *event) with batch (), (B,) or (S, B). It is averaged over S, or repeated
                over B, as needed.
            event_dimensions: number of dimensions of the event.
        """
        if value.ndim - event_dimensions == 2:
            value = value.mean(dim=0)
        return value.expand(self.z.shape[1], *value.shape[value.ndim - event_dimensions :])

    @cached_property
    def log_q(self) -> Tensor:
        """Log q(z|x), (S, B), in nats."""
        return log_prob_at_sample(self.q, self.z, self.q) if self.sampled_log_q is None else self.sampled_log_q

    @cached_property
    def log_p(self) -> Tensor:
        """Log p(z), (S, B), in nats."""
        return log_prob_at_sample(self.p, self.z, self.q)

    @cached_property
    def kl(self) -> Tensor:
        """KL(q(z|x) || p(z)), (S, B), in nats: the closed form if one is registered, else log q(z|x) - log p(z)."""
        try:
            return kl_divergence(self.q, self.p).expand(self.z.shape[:2])
        except NotImplementedError:
            return self.log_q - self.log_p

    @cached_property
    def element_kl(self) -> Tensor:
        """The KL of each element of z, (B, D), (B, C, h, w), or (B, N) for N one-hot codes, in nats, averaged over S.

        Raises:
            NotImplementedError: if the elements are dependent, or no closed form is registered.
        """
        kl = element_kl(self.q, self.p)
        return self.over_examples(kl, kl.ndim - len(torch.broadcast_shapes(self.q.batch_shape, self.p.batch_shape)))

    @cached_property
    def unit_kl(self) -> Tensor:
        """The KL of each unit, (B, U), in nats; its sum over U is the mean of `kl` over S.

        A unit is a dimension of a vector, a channel of a map (its KL is summed over space), or a one-hot code.

        Raises:
            NotImplementedError: if the units are dependent, or no closed form is registered.
        """
        kl = self.element_kl
        return kl.flatten(2).sum(-1) if kl.ndim > 2 else kl

    @property
    def kl_map(self) -> Tensor:
        """The KL at each place of a map of latents, (B, h, w), in nats, summed over channels.

        Raises:
            NotImplementedError: if z is not a map (C, h, w), or its elements have no KL in closed form.
        """
        if self.element_kl.ndim != 4:
            raise NotImplementedError(f"z of shape {tuple(self.z.shape[2:])} is no map (C, h, w)")
        return self.element_kl.sum(1)

    def score(self) -> Tensor:
        """Return the gradient of log q(z|x) with respect to z at fixed parameters of q, (S, B, *event)."""
        with torch.enable_grad():
            z = self.z.detach().requires_grad_()
            return torch.autograd.grad(self.q.log_prob(z).sum(), z)[0]

    def path_log_q(self) -> Tensor:
        """Return log q(z|x), (S, B), in nats, with the path derivative only.

        The gradient with respect to z is `score()`. The direct gradient with respect to q's parameters, the score
        function, is omitted: its expectation is 0 (Roeder et al. 2017).
        """
        if not self.z.requires_grad:  # in evaluation: no need to invert a flow for an unused gradient
            return self.log_q.detach()
        path = (self.score() * self.z).flatten(2).sum(-1)
        return self.log_q.detach() + (path - path.detach())

    def own_log_q(self) -> Tensor:
        """Return log q(z|x), (S, B), in nats, with the direct derivative only.

        The gradient flows to q's parameters at fixed z, and none flows to z.
        """
        if not self.z.requires_grad:
            return self.log_q.detach()
        log_q: Tensor = self.q.log_prob(self.z.detach())
        return log_q

    def scale_gradient(self, factor: Tensor) -> None:
        """Multiply the gradient at each sample of z by `factor` before it reaches q's parameters; once per trace.

        Args:
            factor: one number per sample and example, (S, B).
        """
        if self.z.requires_grad:  # not in evaluation
            self.z.register_hook(lambda gradient: gradient * factor.reshape(*factor.shape, *[1] * (gradient.ndim - 2)))


@dataclass(frozen=True, eq=False)
class Trace:
    """A batch x, p(x|z) at the samples of z, and the latent variables, top level first.

    Args:
        x: the batch, (B, C, H, W), in [0, 1].
        px: p(x|z), batch shape (S, B), event shape (C, H, W).
        latents: one `Latent` per level.
        context: what the model was conditioned on, each value (B, ...).

    Example:
        The negative ELBO of 16 pixels with probability 1/2 each, where q equals p:

        >>> from nelbo.distributions import BernoulliPixels, DiagonalNormal, StandardNormal
        >>> q = DiagonalNormal(torch.zeros(5, 2), torch.ones(5, 2))
        >>> latent = Latent(q, StandardNormal(torch.zeros(2)), q.rsample((3,)))
        >>> trace = Trace(torch.zeros(5, 1, 4, 4), BernoulliPixels(torch.zeros(3, 5, 1, 4, 4)), (latent,))
        >>> trace.log_px.shape, trace.kl.shape
        (torch.Size([3, 5]), torch.Size([3, 5]))
        >>> round((trace.kl - trace.log_px).mean().item(), 2)  # 16 log 2 nats
        11.09
    """

    x: Tensor
    px: Distribution
    latents: tuple[Latent, ...]
    context: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def shares(self) -> Shares:
        """The number of examples of the batch in each training process; all processes must access it together."""
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
    def log_joint(self) -> Tensor:
        """Log p(x, z), (S, B), in nats."""
        return sum((latent.log_p for latent in self.latents), start=self.log_px)

    @cached_property
    def log_p(self) -> Tensor:
        """Log p(z) of all levels, (S, B), in nats."""
        return sum((latent.log_p for latent in self.latents[1:]), start=self.latents[0].log_p)

    @cached_property
    def log_q(self) -> Tensor:
        """Log q(z|x) of all levels, (S, B), in nats."""
        return sum((latent.log_q for latent in self.latents[1:]), start=self.latents[0].log_q)

    @cached_property
    def log_weight(self) -> Tensor:
        """Log p(x, z) - log q(z|x), (S, B), in nats: the log importance weights of Burda et al. 2016, eq. 8."""
        return self.log_px + sum((latent.log_p - latent.log_q for latent in self.latents), start=torch.zeros(()))

    def by_level(self, name: str) -> dict[str, Latent]:
        """Return the levels from the top, under the names of a quantity of each; empty if there is a single level.

        Args:
            name: what the quantity is called where there is a single level, such as `kl`; with several it is followed
                by _level_1 for the top level, and so on.
        """
        if len(self.latents) == 1:
            return {}
        return {f"{name}_level_{level}": latent for level, latent in enumerate(self.latents, start=1)}

    def at_top(self, name: str) -> str:
        """Return the name of a quantity of the top level: as it is if there is no other level, else with `TOP_LEVEL`.

        Args:
            name: such as "active_units" or "train/active_units".
        """
        stage, slash, quantity = name.rpartition("/")
        return name if len(self.latents) == 1 else f"{stage}{slash}{TOP_LEVEL}{quantity}"

    @property
    def has_kl(self) -> bool:
        """Whether every level has a KL, so that the ELBO is defined."""
        return all(latent.has_kl for latent in self.latents)

    @property
    def has_density(self) -> bool:
        """Whether every level has log q(z|x) of its samples, so that importance weights are defined."""
        return all(latent.has_density for latent in self.latents)
