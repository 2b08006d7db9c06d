"""One pass of a model: p(x|z) at samples of the latent variables.

Shapes: S Monte Carlo samples, B batch, C H W image. Samples of z have shape (S, B, *event); x has shape (B, C, H, W),
and `log_prob` broadcasts it over S. Log-probabilities and KLs are sums over the event, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.numerics.collectives import Shares
from nelbo.trace.latent import LabelLatent, Latent

LOG_BETA = "log_beta"
"""The entry of a context with the logarithm of each image's beta, (B,), where a model is trained for many of them."""

TOP_LEVEL = "top_level_"
"""Prefix of the names of what was measured on the top level alone of a model with several."""


@dataclass(frozen=True, eq=False)
class Trace:
    """A batch x, p(x|z) at the samples of z, and the latent variables, top level first.

    Args:
        x: the batch, (B, C, H, W), in [0, 1].
        px: p(x|z), batch shape (S, B), event shape (C, H, W).
        latents: one `Latent` per level.
        context: what the model was conditioned on, each value (B, ...).
        alternatives: K, how many samples that follow each other are all values of a discrete level, with weights whose
            mean is 1; 1 where every sample is a draw.
        example_weights: factors of the examples in the average over the batch, (B,); None if all are 1.
        withheld: what is known of the examples and the model was not given, such as labels that it infers.

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
    alternatives: int = 1
    example_weights: Tensor | None = None
    withheld: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def weights(self) -> Tensor | None:
        """Factors of the samples in averages over S, (S, B), with mean 1 over S; None if all are 1."""
        return self.latents[0].weights

    def over_samples(self, values: Tensor) -> Tensor:
        """Return the average over samples of values (S, B), with the weights of the samples, (B,)."""
        return (values if self.weights is None else self.weights * values).mean(dim=0)

    def mean(self, values: Tensor) -> Tensor:
        """Return the average of values over samples and examples, with the weights of both, a scalar.

        Args:
            values: (S, B), or (B,) if they have been averaged over samples.
        """
        if self.weights is not None and values.ndim == 2:
            values = self.weights * values
        return (values if self.example_weights is None else self.example_weights * values).mean()

    def with_log_weights(self, log_values: Tensor) -> Tensor:
        """Return logarithms of values (S K, B), each with log q of its alternative added; -inf where q is 0."""
        if self.weights is None:
            return log_values
        possible = self.weights > 0
        log_weights = torch.where(possible, self.weights, 1.0).log() - math.log(self.alternatives)
        return torch.where(possible, log_values + log_weights, -torch.inf)

    def over_alternatives(self, log_values: Tensor) -> Tensor:
        """Return logarithms of values (S K, B) summed over the K alternatives with q of each as weight, (S, B)."""
        if self.weights is None:
            return log_values
        summed: Tensor = self.with_log_weights(log_values).unflatten(0, (-1, self.alternatives)).logsumexp(dim=1)
        return summed

    @property
    def label(self) -> LabelLatent | None:
        """The label that the model infers, its top level; None if it infers none."""
        top = self.latents[0]
        return top if isinstance(top, LabelLatent) else None

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
        """Log p(x, z) - log q(z|x), (S, B), in nats: the log importance weights of Burda et al. 2016, eq. 8.

        Over the alternatives of a discrete level they are summed exactly.
        """
        terms = (latent.log_p - latent.log_q for latent in self.latents)
        return self.over_alternatives(self.log_px + sum(terms, start=torch.zeros(())))

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
