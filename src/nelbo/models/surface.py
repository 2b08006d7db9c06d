"""What one training on many betas and numbers of latents needs of a VAE.

Shapes: S Monte Carlo samples, B batch, D latent dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError
from nelbo.heads import (
    DiagonalNormalPosterior,
    FullNormalPosterior,
    LaplacePosterior,
    Likelihood,
    OptimalGaussian,
    Posterior,
)
from nelbo.models.context import Context
from nelbo.models.nesting import LATENT_DIM, Nesting
from nelbo.models.rates import ManyRates
from nelbo.priors import DiagonalNormal as DiagonalNormalPrior
from nelbo.priors import Mixture, Prior, StandardNormal, VampPrior
from nelbo.trace import LOG_BETA

NESTED_POSTERIORS: tuple[type[Posterior], ...] = (DiagonalNormalPosterior, FullNormalPosterior, LaplacePosterior)
"""Posteriors whose first K units have a marginal of the same kind."""

NESTED_PRIORS: tuple[type[Prior], ...] = (StandardNormal, DiagonalNormalPrior, Mixture, VampPrior)
"""Priors whose first K units do, if the posterior's do."""


class Surface(nn.Module):
    """The settings of a VAE that is trained once for many: beta, the number of latents, or both.

    The entries of the context that are not given are those of the ordinary model: beta = 1, or the nearest that it is
    trained for, and all latents.

    Args:
        rates: the gates by which the model depends on beta; None for a model of one beta.
        nesting: the numbers of latents; None for a model of all of them.
    """

    def __init__(self, rates: ManyRates | None, nesting: Nesting | None) -> None:
        super().__init__()
        self.rates, self.nesting = rates, nesting

    def check(self, posterior: Posterior, prior: Prior, likelihood: Likelihood) -> None:
        """Check that the heads of a model allow many settings.

        Raises:
            ConfigError: if they do not.
        """
        if self.rates is None:
            group, posteriors, priors = "nesting", NESTED_POSTERIORS, NESTED_PRIORS
            posterior_names = "diagonal_normal, full_normal or laplace"
            prior_names = "standard_normal, diagonal_normal, mixture or vamp"
        else:
            group, posteriors, priors = "rates=many", (DiagonalNormalPosterior,), (StandardNormal,)
            posterior_names, prior_names = "diagonal_normal", "standard_normal"
        if not isinstance(posterior, posteriors):
            raise refusal("posterior", posterior, f"does not go with {group}; use posterior={posterior_names}")
        if not isinstance(prior, priors):
            raise refusal("prior", prior, f"does not go with {group}; use prior={prior_names}")
        own = [name for name, _ in likelihood.named_parameters() if not name.startswith("project.")]
        if own or isinstance(likelihood, OptimalGaussian):
            hint = f"has one scale for all settings, and the best one depends on them; with {group} use likelihood="
            raise refusal("likelihood", likelihood, f"{hint}bernoulli or gaussian_fixed")

    def draw(self, count: int) -> Context:
        """Return settings for a batch of training images, (B,) each.

        Args:
            count: B.
        """
        context: dict[str, Tensor] = {}
        if self.rates is not None:
            context[LOG_BETA] = self.rates.draw(count)
        if self.nesting is not None:
            context[LATENT_DIM] = self.nesting.draw(count)
        return context

    def complete(self, context: Context, count: int) -> Context:
        """Return a context with all settings, (B,) each.

        Args:
            context: what is given of it.
            count: B.
        """
        whole = dict(context)
        if self.rates is not None and LOG_BETA not in whole:
            whole[LOG_BETA] = self.rates.default(count)
        if self.nesting is not None and LATENT_DIM not in whole:
            whole[LATENT_DIM] = self.nesting.default(count)
        return whole

    def setting(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of a context for given settings, `beta` or `latent_dim`.

        Raises:
            ConfigError: for another name, or a value that is not among those that the model is trained for.
        """
        entries = dict(values)
        names = [*(["beta"] if self.rates else []), *([LATENT_DIM] if self.nesting else [])]
        for name, value in values.items():
            if name not in names:
                raise ConfigError(name, value, f"the model was trained for many values of {' and '.join(names)} alone")
        if self.rates is not None and "beta" in entries:
            entries[LOG_BETA] = self.rates.check(entries.pop("beta"))
        if self.nesting is not None and LATENT_DIM in entries:
            entries[LATENT_DIM] = self.nesting.check(entries[LATENT_DIM])
        return entries

    def at(self, context: Context) -> contextlib.AbstractContextManager[None]:
        """Return a context within which the networks compute at the given settings."""
        return contextlib.nullcontext() if self.rates is None else self.rates.at(context)

    def posterior(self, q: Distribution, context: Context) -> Distribution:
        """Return the posterior head's q(z|x) at the given settings."""
        if self.rates is not None:
            assert isinstance(q, DiagonalNormal)
            q = self.rates.posterior(q, context)
        return self.first_units(q, context)

    def first_units(self, distribution: Distribution, context: Context) -> Distribution:
        """Return q(z|x) or p(z) of the number of latents that the context has for each image; as it is without one.

        Args:
            distribution: q(z|x), batch shape (B,), or p(z), batch shape (), of all latents.
            context: the settings, (B,) each.
        """
        if self.nesting is None or LATENT_DIM not in context:
            return distribution
        return self.nesting.first_units(distribution, context)

    def code(self, code: Tensor, context: Context) -> Tensor:
        """Return the decoder's input at the given settings, (..., B, D).

        Args:
            code: z, (..., B, D), or (D,).
            context: the settings, (B,) each, or (1,) for one of all.
        """
        single = code.ndim == 1
        if self.rates is not None:
            code = code * self.rates.code_gates(context)
        if self.nesting is not None:
            code = torch.where(self.nesting.mask(context) > 0, code, 0.0)
        return code.squeeze(0) if single else code


def refusal(slot: str, part: object, hint: str) -> ConfigError:
    """Return the error for a part that does not go with many settings.

    Args:
        slot: the part's key, such as `prior`.
        part: the part.
        hint: what to do.
    """
    return ConfigError(slot, type(part).__name__, hint)
