"""The base class of priors, and checks of the latents that a prior is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.errors import ConfigError

Encode = Callable[[Tensor], Distribution]


class Prior(nn.Module):
    """A module that returns p(z) with batch shape ().

    Subclasses are constructed with the event shape of z, (D,) or (N, K) for N one-hot codes of K classes, and with the
    shape of the images, (C, H, W).
    """

    def forward(self, encode: Encode) -> Distribution:
        """Return p(z).

        Args:
            encode: the encoder, from images (N, C, H, W) to q(z|x) with batch shape (N,). Only a mixture of posteriors
                (`VampPrior`) uses it.
        """
        raise NotImplementedError

    def initialize(self, images: Tensor) -> None:
        """Set initial values of the parameters from training images, if the prior uses any.

        Args:
            images: (N, C, H, W), in [0, 1].
        """


def latent_dimension(prior: str, event_shape: Sequence[int]) -> int:
    """Return D for a prior over vectors.

    Args:
        prior: the name of the prior in the config, for the error message.
        event_shape: shape of z.

    Raises:
        ConfigError: if the latents are one-hot codes.
    """
    if len(event_shape) != 1:
        hint = "is a prior over vectors, but the latents are one-hot codes; use prior=categorical or prior=uniform"
        raise ConfigError("prior", prior, hint, located=True)
    return event_shape[0]


def variables_and_classes(prior: str, event_shape: Sequence[int]) -> tuple[int, int]:
    """Return N and K for a prior over one-hot codes.

    Args:
        prior: the name of the prior in the config, for the error message.
        event_shape: shape of z.

    Raises:
        ConfigError: if the latents are vectors.
    """
    if len(event_shape) != 2:
        codes = "vector_quantized" if prior == "autoregressive" else "categorical or vector_quantized"
        hint = "is a prior over one-hot codes, but the latents are vectors; use prior=standard_normal or posterior="
        raise ConfigError("prior", prior, hint + codes, located=True)
    return event_shape[0], event_shape[1]
