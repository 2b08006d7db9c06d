"""One VAE for every number of latents: the first K of them are a VAE of their own.

Rippel et al. 2014, "Learning ordered representations with nested dropout" (ICML). In training every image has a K of
its own, drawn anew each time; the entry `latent_dim` of the context.

Shapes: B batch, D latent dimensions.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import first_units
from nelbo.errors import ConfigError, integer, number
from nelbo.models.context import Context

LATENT_DIM = "latent_dim"
"""The entry of the context with the number of latents of each image, K."""


class Nesting(nn.Module):
    """Latents of which the first K, for every K from 1 to D, are those of a VAE.

    Units beyond K have q(z|x) = p(z) = N(0, 1), so that their KL is 0, and the decoder is given 0 in their place. The
    ELBO is then that of the model of the first K units alone, whose q(z|x) and p(z) are the marginals of those units.

    Args:
        latent_dim: D.
        decay: in training, the probability of K is proportional to decay^K: 1 for equal ones.

    Raises:
        ConfigError: if `decay` is not in (0, 1].
    """

    has_default: ClassVar[bool] = True
    context_names: ClassVar[tuple[str, ...]] = (LATENT_DIM,)

    def __init__(self, latent_dim: int, *, decay: float) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        if number("decay", decay, positive=True) > 1:
            raise ConfigError("decay", decay, "must be at most 1")
        self.register_buffer("weights", decay ** torch.arange(0.0, latent_dim), persistent=False)
        self.register_buffer("places", torch.arange(latent_dim), persistent=False)
        self.weights: Tensor
        self.places: Tensor

    def draw(self, count: int) -> Tensor:
        """Return K of `count` images, (count,)."""
        return 1 + torch.multinomial(self.weights, count, replacement=True)

    def default(self, count: int) -> Tensor:
        """Return D for each image, (count,)."""
        return torch.full((count,), self.latent_dim, device=self.places.device)

    def check(self, latent_dim: int) -> int:
        """Return K.

        Raises:
            ConfigError: if it is not a whole number from 1 to D.
        """
        return integer("latent_dim", latent_dim, minimum=1, maximum=self.latent_dim)

    def mask(self, context: Context) -> Tensor:
        """Return 1 for the first K units and 0 for those beyond, (B, D)."""
        return (self.places < context[LATENT_DIM].unsqueeze(-1)).to(self.weights.dtype)

    def first_units(self, distribution: Distribution, context: Context) -> Distribution:
        """Return q(z|x) or p(z) with N(0, 1) in the units beyond K.

        Args:
            distribution: q(z|x) of the posterior head, batch shape (B,), or p(z) of the prior, batch shape ().
            context: the context, with K of each image, (B,).

        Returns:
            A distribution with batch shape (B,). Of p(z) for B = 1 it is (), as without nesting; likewise if it is
            N(0, I), which does not depend on K.
        """
        mask = self.mask(context)
        is_shared = len(mask) == 1 and not distribution.batch_shape
        return first_units(distribution, mask[0] if is_shared else mask)
