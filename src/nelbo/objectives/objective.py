"""The base class of objectives, the loss that they return, and the terms that they share.

Shapes: S Monte Carlo samples, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nelbo.distributions import OneHots, Quantized, StandardNormal
from nelbo.errors import ConfigError, positive_integer
from nelbo.trace import Latent, Trace

NEEDS_VECTORS = (
    "needs continuous latents, but z are one-hot codes; use objective=elbo (objective=vq_vae with a codebook), or "
    "posterior=diagonal_normal and prior=standard_normal"
)
"""Error message of objectives that are not defined for one-hot codes."""

Weight = float | Tensor
"""The weight of a term of a loss: a number, or one for each example, (B,)."""


class Loss(NamedTuple):
    """The loss of a batch, and its terms for the logs.

    Args:
        total: the scalar to minimise, in nats per example.
        terms: scalars by name: tensors in nats per example without gradients, floats for weights.
    """

    total: Tensor
    terms: dict[str, Tensor | float]


class Objective(nn.Module):
    """A loss as a function of a trace and the optimiser step.

    An objective sees the trace, not the model. It may own parameters, which are trained together with the model.

    Args:
        num_samples: S, the number of samples of q(z|x) that the trace must hold.

    Raises:
        ConfigError: if `num_samples` is not a positive integer.
    """

    name: ClassVar[str] = ""
    """Name of the objective in the config (objective=NAME), used in error messages."""

    weighs_each_image: ClassVar[bool] = False
    """Whether the KL of each image has a weight of its own, so that a model can be trained for many betas at once."""

    is_mean_over_images: ClassVar[bool] = True
    """Whether the loss is a mean of one for each image, so that images may have different numbers of latents."""

    sums_over_classes: ClassVar[bool] = False
    """Whether its averages use the weights of samples, so that a model may sum over a label that it infers."""

    weighs_examples: ClassVar[bool] = False
    """Whether it is a mean over examples that uses their weights, the column `sample_weight` of the data."""

    least_batch: ClassVar[int] = 1
    """Minimum number of images in a batch, summed over all processes."""

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = positive_integer("num_samples", num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """Return the loss.

        Args:
            trace: of S samples per image.
            step: the optimiser step, at which schedules are evaluated; `math.inf` selects their final values.
        """
        raise NotImplementedError

    def check(self, trace: Trace) -> None:
        """Check that the objective is defined for the model; called once, before training.

        Args:
            trace: a trace of two images, computed by the model in eval mode.

        Raises:
            ConfigError: if the objective and a component of the model are incompatible; the message names both.
        """

    def prepare(self, num_examples: int) -> None:
        """Set the number of training images, for estimators that depend on it; called before training."""

    def optimizer_options(self) -> dict[str, Any]:
        """Return optimiser options, such as `lr`, for the objective's own parameters that differ from the model's."""
        return {}

    def refuse(self, hint: str) -> ConfigError:
        """Return a `ConfigError` that names this objective and gives the hint."""
        return ConfigError("objective", self.name, hint, located=True)

    def require_kl(self, trace: Trace) -> None:
        """Check that every level of latents has a KL.

        Raises:
            ConfigError: if q(z|x) has no density, or if its KL to the prior is needed in closed form and has none.
        """
        if not trace.has_kl:
            hint = "use objective=reconstruction or objective=wae, or posterior=diagonal_normal"
            raise self.refuse(f"posterior=deterministic has no log q(z|x); {hint}")
        for latent in trace.latents:
            if isinstance(latent.q, OneHots) and not isinstance(latent.p, OneHots):
                hint = "use prior=categorical or prior=uniform, or posterior=vector_quantized"
                raise self.refuse(f"posterior=categorical needs a KL in closed form, and this prior has none; {hint}")

    def require_weights(self, trace: Trace) -> None:
        """Check that samples are reparameterised and have a density, as importance weights with gradients require.

        Raises:
            ConfigError: for deterministic latents and for one-hot codes.
        """
        self.require_kl(trace)
        if not all(latent.has_density and latent.q.has_rsample for latent in trace.latents):
            problem = "one-hot samples have no reparameterised density, so there are no importance weights for training"
            alternatives = "objective=elbo (objective=vq_vae with a codebook), or posterior=diagonal_normal"
            raise self.refuse(f"{problem}; use {alternatives} and prior=standard_normal")

    def require_soft_codes(self, trace: Trace) -> None:
        """Check that the KL depends on q(z|x).

        Raises:
            ConfigError: for latents quantised to a codebook, whose KL depends on the prior alone.
        """
        if any(isinstance(latent.q, Quantized) for latent in trace.latents):
            problem = "weights the KL, which trains only the prior if the code is quantised"
            raise self.refuse(f"{problem}; use objective=vq_vae")

    def require_standard_normal(self, latent: Latent, reason: str) -> None:
        """Check that the prior of a level is the fixed standard normal.

        Args:
            latent: the level to check.
            reason: why the objective cannot train a prior, for the error message.

        Raises:
            ConfigError: if the prior is any other.
        """
        if not isinstance(latent.p, StandardNormal):
            raise self.refuse(f"{reason}; use prior=standard_normal, or objective=elbo")


@dataclass(frozen=True, eq=False)
class Terms:
    """The two terms of the negative ELBO before any average, so that a weight may differ by example.

    Args:
        reconstruction: -log p(x|z), (S, B), in nats.
        kl: KL(q(z|x) || p(z)), summed over the levels, (S, B), in nats; 0 if a level has none.
        logged: scalars by name, in nats per example, without gradients.
    """

    reconstruction: Tensor
    kl: Tensor
    logged: dict[str, Tensor | float]


def elbo_terms(trace: Trace) -> Terms:
    """Return E_q[-log p(x|z)] and KL(q(z|x) || p(z)) of every sample and example, and the terms to log.

    Where a level has no KL, the terms to log lack `nelbo` and `kl`. With several levels, the KL of each is among them
    as `kl_level_1`, ..., where level 1 is the top.
    """
    reconstruction = -trace.log_px
    mean, levels = trace.mean(reconstruction).detach(), trace.by_level("kl")
    by_level = {name: trace.mean(latent.kl).detach() for name, latent in levels.items() if latent.has_kl}
    if not trace.has_kl:
        return Terms(reconstruction, torch.zeros_like(reconstruction), {"reconstruction": mean, **by_level})
    kl = trace.mean(trace.kl).detach()
    logged: dict[str, Tensor | float] = {"nelbo": mean + kl, "reconstruction": mean, "kl": kl, **by_level}
    return Terms(reconstruction, trace.kl, logged)


def negative_elbo_below(trace: Trace) -> Tensor:
    """Return a bound on -log p(x|z) given z of the top level alone, (S, B), in nats.

    It is -log p(x|z), plus the KLs of the levels below the top if there are any: the levels below then count as a part
    of the likelihood of the top level.
    """
    return sum((latent.kl for latent in trace.latents[1:]), start=-trace.log_px)


def mean_weight(weight: Weight) -> float | Tensor:
    """Return a weight as it is logged: a number, or the mean over examples."""
    return weight.mean().detach() if isinstance(weight, Tensor) else weight


def weighted_mean(weight: Weight, term: Tensor, trace: Trace | None = None) -> Tensor:
    """Return the mean over samples and examples of weight times term, a scalar.

    Args:
        weight: a number, or one for each example, (B,).
        term: (S, B), or a scalar that is not a mean over examples.
        trace: whose samples may have weights of their own; None if they have none.

    Example:
        >>> term = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # two samples of two examples
        >>> weighted_mean(2.0, term), weighted_mean(torch.tensor([1.0, 0.0]), term)
        (tensor(5.), tensor(1.))
    """
    mean = torch.mean if trace is None or not term.ndim else trace.mean
    return mean(weight * term) if isinstance(weight, Tensor) else weight * mean(term)
