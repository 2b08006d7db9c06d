"""What the encoder is given of images or vectors, some of whose pixels are unknown, and what of them p(x|z) counts.

Shapes: B batch, N training images, C H W image, or D in place of C H W for vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import ObservedPixels, has_pixels
from nelbo.distributions.columns import OBSERVED
from nelbo.errors import ConfigError, boolean
from nelbo.heads import Likelihood, OptimalGaussian
from nelbo.models.context import names_of


class MaskedInputs(nn.Module):
    """Images with 0 in place of pixels that were not observed, and the mask.

    The likelihood leaves these pixels out (Mattei & Frellsen 2019, "MIWAE", section 3): the objective is the ELBO of
    the observed ones, which is valid if pixels are missing at random.

    Args:
        shape: of x, (C, H, W), or (D,).
        mask: whether the mask is joined to x as more channels, or numbers: 1 where a pixel was observed.

    Raises:
        ConfigError: if `mask` is neither true nor false.

    Example:
        >>> inputs = MaskedInputs((2,), mask=True)
        >>> inputs(torch.ones(1, 2), {"observed": torch.tensor([[True, False]])})
        tensor([[1., 0., 1., 0.]])
    """

    context_names: ClassVar[tuple[str, ...]] = (OBSERVED,)
    has_default: ClassVar[bool] = True

    def __init__(self, shape: Sequence[int], *, mask: bool) -> None:
        super().__init__()
        self.mask = boolean("mask", mask)
        self.out_shape = (2 * shape[0], *shape[1:]) if mask else tuple(shape)

    def forward(self, x: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the encoder's input, (B, C, H, W), or (B, 2C, H, W) with the mask.

        Args:
            x: images, (B, C, H, W).
            context: may have `observed`, bool, (B, C, H, W); without it, all pixels were observed.
        """
        observed = (context or {}).get(OBSERVED)
        known = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        return torch.cat([x * known, known], dim=1) if self.mask else x * known

    def initialize(self, images: Tensor, context: Mapping[str, Tensor] | None = None) -> None:
        """Nothing is learned from training images."""

    def check(self, likelihood: Likelihood) -> None:
        """Check that a likelihood takes nothing but p(x|z) from the pixels of a batch.

        Raises:
            ConfigError: if it fits its sigma to a batch, unknown pixels included.
        """
        if isinstance(likelihood, OptimalGaussian):
            hint = "fits sigma to whole images; with inputs=masked use another likelihood, such as gaussian"
            raise ConfigError("likelihood", "gaussian_optimal", hint, located=True)


def of_observed(
    px: Distribution, inputs: object, likelihood: Likelihood, context: Mapping[str, Tensor]
) -> Distribution:
    """Return p(x|z) of the observed pixels alone, where a model has `MaskedInputs`; or else p(x|z) as it is.

    Args:
        px: p(x|z).
        inputs: what makes the encoder's input, or None.
        likelihood: what made p(x|z).
        context: may have `observed`, (B, *event).

    Raises:
        ConfigError: if p(x|z) is no product over pixels.
    """
    if not isinstance(inputs, MaskedInputs) or OBSERVED in names_of(likelihood):
        return px
    if not has_pixels(px):
        hint = "is no product over pixels, so it cannot leave unknown ones out; with inputs=masked use another"
        raise ConfigError(
            "likelihood", type(likelihood).__name__, f"{hint}, such as bernoulli or gaussian", located=True
        )
    return ObservedPixels(px, context.get(OBSERVED))


def with_means(images: Tensor, inputs: object, context: Mapping[str, Tensor]) -> Tensor:
    """Return training images with the mean of each pixel where it was not observed, for starting values.

    Args:
        images: (N, C, H, W).
        inputs: what makes the encoder's input; images are changed if it is `MaskedInputs`.
        context: may have `observed`, (N, C, H, W).
    """
    observed = context.get(OBSERVED)
    if observed is None or not isinstance(inputs, MaskedInputs):
        return images
    mean = (images * observed).sum(0) / observed.sum(0).clamp(min=1)
    return torch.where(observed, images, mean)
