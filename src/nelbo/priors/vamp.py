"""The variational mixture of posteriors.

Shapes: N images, K pseudo-inputs, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import even_mixture
from nelbo.errors import ConfigError, boolean, positive_integer
from nelbo.priors.prior import Encode, Prior, vectors

PIXEL_RANGE = 0.02
"""Starting pixels are kept this far from 0 and 1, where the sigmoid has no gradient."""

STARTING_NOISE = 0.5
"""Deviation of the logits of pseudo-inputs about those of the mean image, or of an image that another one has."""


class VampPrior(Prior):
    """p(z) = 1/K sum over k of q(z|u_k), the pseudo-inputs u_k learned (Tomczak & Welling 2018, eq. 9).

    Pixels of u_k are kept in [0, 1] by a sigmoid; the paper's code clips them, which stops clipped ones for good.

    Args:
        event_shape: (D,).
        shape: (C, H, W).
        components: K.
        from_data: whether pseudo-inputs start at training images, or at the mean image with noise.

    Raises:
        ConfigError: if `components` is not a positive whole number, `from_data` not true or false, or z one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int], *, components: int, from_data: bool) -> None:
        super().__init__()
        vectors("vamp", event_shape)
        self.from_data = boolean("from_data", from_data)
        self.logits = nn.Parameter(STARTING_NOISE * torch.randn(positive_integer("components", components), *shape))

    @property
    def pseudo_inputs(self) -> Tensor:
        """u, (K, C, H, W), in [0, 1]."""
        return torch.sigmoid(self.logits)

    def forward(self, encode: Encode) -> Distribution:
        """p(z).

        Raises:
            ConfigError: for posteriors that have no density, or one that inverts a flow.
        """
        components = encode(self.pseudo_inputs)
        try:
            return even_mixture(components)
        except NotImplementedError as error:
            hint = (
                "is a mixture of q(z|u), whose density at other points posterior=deterministic does not have and "
                "posterior=flow can give only by inverting its flow: use prior=mixture or prior=flow, or "
                "posterior=diagonal_normal, full_normal or laplace"
            )
            raise ConfigError("prior", "vamp", hint, located=True) from error

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Pseudo-inputs start at images drawn at random, or about the mean image."""
        count = len(self.logits)
        if self.from_data:
            rounds = -(-count // len(images))  # no image twice before all have come once
            order = torch.cat([torch.randperm(len(images)) for _ in range(rounds)])[:count]
            self.logits.copy_(torch.logit(images[order].clamp(PIXEL_RANGE, 1 - PIXEL_RANGE)))
            # Equal pseudo-inputs have equal gradients, and would stay one.
            again = self.logits[len(images) :]
            again += STARTING_NOISE * torch.randn_like(again)
        else:
            self.logits.add_(torch.logit(images.mean(dim=0).clamp(PIXEL_RANGE, 1 - PIXEL_RANGE)))
