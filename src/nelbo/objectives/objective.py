"""What every objective is."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from nelbo.distributions import OneHots, Quantized, StandardNormal
from nelbo.errors import ConfigError, positive_integer
from nelbo.trace import Trace

NEEDS_VECTORS = (
    "needs vectors, and z are one-hot codes: use objective=elbo (objective=vq_vae with a codebook), or "
    "posterior=diagonal_normal and prior=standard_normal"
)


class Loss(NamedTuple):
    """What is minimised, and the terms to look at.

    Args:
        total: scalar, in nats per example.
        terms: scalars by name; tensors in nats per example, floats for weights.
    """

    total: Tensor
    terms: dict[str, Tensor | float]


class Objective(nn.Module):
    """Called with a trace and the optimiser's step; sees no model. It may own parameters, and is trained with it.

    Args:
        num_samples: S, the samples of q(z|x) that the trace must hold.

    Raises:
        ConfigError: if `num_samples` is not a positive whole number.
    """

    name: ClassVar[str] = ""
    """How it is chosen, objective=..., for what is said to those who cannot have it."""

    least_batch: ClassVar[int] = 1
    """How many images it needs in a batch, of all processes together."""

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        self.num_samples = positive_integer("num_samples", num_samples)

    def forward(self, trace: Trace, step: float) -> Loss:
        """The loss at `step`; `math.inf` asks for schedules at their final value."""
        raise NotImplementedError

    def check(self, trace: Trace) -> None:
        """Refuse what has no meaning, when the run is built.

        Args:
            trace: of two images, by the model in eval mode.

        Raises:
            ConfigError: naming the two that do not go together.
        """

    def prepare(self, num_examples: int) -> None:
        """Take the number of training images, before training, where an estimator depends on it."""

    def optimizer_options(self) -> dict[str, Any]:
        """What the optimiser shall do otherwise with this objective's own parameters, such as {"lr": 1e-4}."""
        return {}

    def refuse(self, hint: str) -> ConfigError:
        """The error that says so, in one line."""
        return ConfigError("objective", self.name, hint, located=True)

    def require_kl(self, trace: Trace) -> None:
        """An ELBO needs log q(z|x).

        Raises:
            ConfigError: for a deterministic code.
        """
        if not trace.has_kl:
            hint = "use objective=reconstruction or objective=wae, or posterior=diagonal_normal"
            raise self.refuse(f"posterior=deterministic has no log q(z|x): {hint}")
        for latent in trace.latents:
            if isinstance(latent.q, OneHots) and not isinstance(latent.p, OneHots):
                hint = "use prior=categorical or prior=uniform, or posterior=vector_quantized"
                raise self.refuse(f"posterior=categorical is trained with a closed KL, and this prior has none: {hint}")

    def require_weights(self, trace: Trace) -> None:
        """Bounds of several samples, and gradients along the path, need a density of reparameterised samples.

        Raises:
            ConfigError: for a deterministic code, and for codes of classes.
        """
        self.require_kl(trace)
        if not all(latent.has_density and latent.q.has_rsample for latent in trace.latents):
            hint = "samples of classes have no reparameterised density, so no importance weights to train with"
            instead = "objective=elbo (objective=vq_vae with a codebook), or posterior=diagonal_normal"
            raise self.refuse(f"{hint}: use {instead} and prior=standard_normal")

    def require_soft_codes(self, trace: Trace) -> None:
        """A rate that q(z|x) can change.

        Raises:
            ConfigError: for vectors rounded to a codebook, whose KL is a number of the prior alone.
        """
        if any(isinstance(latent.q, Quantized) for latent in trace.latents):
            raise self.refuse("weighs a KL that trains nothing but the prior of a rounded code: use objective=vq_vae")

    def require_one_level(self, trace: Trace) -> None:
        """One level of latents.

        Raises:
            ConfigError: for several, whose paths lead through each other.
        """
        if len(trace.latents) > 1:
            raise self.refuse(
                f"is for one level of latents, and the model has {len(trace.latents)}: use objective=elbo"
            )

    def require_standard_normal(self, trace: Trace, reason: str) -> None:
        """A prior that is not learned.

        Raises:
            ConfigError: for any other, with the reason.
        """
        if not all(isinstance(latent.p, StandardNormal) for latent in trace.latents):
            raise self.refuse(f"{reason}: use prior=standard_normal, or objective=elbo")


def elbo_terms(trace: Trace) -> tuple[Tensor, Tensor, dict[str, Tensor | float]]:
    """E_q[-log p(x|z)] and KL(q(z|x) || p(z)), scalars in nats, and the terms that every objective shows of them."""
    reconstruction = -trace.log_px.mean()
    if not trace.has_kl:
        return reconstruction, reconstruction.new_zeros(()), {"reconstruction": reconstruction.detach()}
    kl = trace.kl.mean()
    terms: dict[str, Tensor | float] = {
        "nelbo": (reconstruction + kl).detach(),
        "reconstruction": reconstruction.detach(),
        "kl": kl.detach(),
    }
    return reconstruction, kl, terms
