"""Levels of latent variables in one pass of a model: q, p and samples, with KLs computed on demand.

Shapes: S Monte Carlo samples, B batch, D latent dimensions. Log-probabilities and KLs are sums over the event, in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from nelbo.distributions import Delta, OneHots, RelaxedOneHot, is_discrete, log_prob_at_sample


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
        weights: factors of the samples in averages over S, (S, B), with mean 1 over S; None if all are 1.
    """

    q: Distribution
    p: Distribution
    z: Tensor
    sampled_log_q: Tensor | None = None
    weights: Tensor | None = None

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
            value: the statistic, (*batch, *event) with batch (), (B,) or (S, B). It is averaged over S, with the
                weights of the samples, or repeated over B, as needed.
            event_dimensions: number of dimensions of the event.
        """
        if value.ndim - event_dimensions == 2:
            weights = self.weights
            value = (value if weights is None else value * trailing(weights, event_dimensions)).mean(dim=0)
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
            self.z.register_hook(lambda gradient: gradient * trailing(factor, gradient.ndim - 2))


def trailing(factor: Tensor, dimensions: int) -> Tensor:
    """Return a tensor with a number of dimensions of size 1 added at its end."""
    return factor.reshape(*factor.shape, *[1] * dimensions)


@dataclass(frozen=True, eq=False)
class LabelLatent(Latent):
    """A label y as the top level: q(y|x) of a classifier where it is unknown, and its class where it is known.

    z holds every class, one-hot, S times in turn: (S K, B, 1, K). The weights are K q(y|x), so that an average over the
    samples is an exact sum over the classes.

    Args:
        name: the name of the label in a context.
        classifier: q(y|x), of known labels too, batch shape (B,), event shape (1, K).
        label: the classes, (B,), int64, and -1 where they are unknown.
    """

    name: str = ""
    classifier: OneHots = field(default_factory=lambda: OneHots(torch.zeros(1, 1)))
    label: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def known(self) -> Tensor:
        """Which labels are known, (B,), bool."""
        return self.label >= 0

    @cached_property
    def cross_entropy(self) -> Tensor:
        """-log q(y|x) of the known labels, (B,), in nats; 0 where the label is unknown."""
        logits = self.classifier.logits.squeeze(-2)
        chosen = -logits.gather(-1, self.label.clamp_min(0).unsqueeze(-1)).squeeze(-1)
        return torch.where(self.known, chosen, 0.0)
