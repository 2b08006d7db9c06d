"""The VampPrior, a variational mixture of posteriors.

Shapes: N images, K pseudo-inputs, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import even_mixture
from nelbo.errors import ConfigError, boolean, positive_integer
from nelbo.priors.prior import Encode, Prior, latent_dimension

PIXEL_RANGE = 0.02
"""The minimum distance of initial pixels from 0 and 1, where the gradient of the sigmoid vanishes."""

STARTING_NOISE = 0.5
"""Standard deviation of the noise on initial logits of pseudo-inputs that start at the same image."""


class VampPrior(Prior):
    """p(z) = 1/K sum_k q(z|u_k) with learned pseudo-inputs u_k (Tomczak & Welling 2018, eq. 9).

    With a flow posterior, log p(z) inverts the K flows at every z; a coupling or spline flow does so at the cost of K
    passes, while an autoregressive one would need K D and is refused.

    A sigmoid keeps the pixels of u_k in [0, 1]. The code of the paper clips them instead, after which clipped pixels no
    longer receive a gradient.

    Args:
        event_shape: shape of z, (D,).
        shape: shape of the images, (C, H, W).
        components: number of pseudo-inputs K.
        from_data: whether pseudo-inputs start at training images; otherwise they start at the mean image with noise.

    Raises:
        ConfigError: if `components` is not a positive whole number, `from_data` is not true or false, or the latents
            are one-hot codes.
    """

    def __init__(self, event_shape: Sequence[int], shape: Sequence[int], *, components: int, from_data: bool) -> None:
        super().__init__()
        latent_dimension("vamp", event_shape)
        self.from_data = boolean("from_data", from_data)
        self.logits = nn.Parameter(STARTING_NOISE * torch.randn(positive_integer("components", components), *shape))

    @property
    def pseudo_inputs(self) -> Tensor:
        """The pseudo-inputs u, (K, C, H, W), in [0, 1]."""
        return torch.sigmoid(self.logits)

    def forward(self, encode: Encode) -> Distribution:
        """Return p(z).

        Args:
            encode: the encoder, from images (K, C, H, W) to q(z|x) with batch shape (K,).

        Raises:
            ConfigError: if the posterior has no density, or one that needs the inverse of an autoregressive flow.
        """
        components = encode(self.pseudo_inputs)
        try:
            return even_mixture(components)
        except NotImplementedError as error:
            hint = (
                "is a mixture of q(z|u) and needs its density at any z, which posterior=deterministic lacks and an "
                "autoregressive flow has only by an inverse of D passes for each u; use prior=mixture or prior=flow, "
                "or posterior=diagonal_normal, full_normal or laplace, or a flow with model.posterior.kind=coupling"
            )
            raise ConfigError("prior", "vamp", hint, located=True) from error

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Set the pseudo-inputs to random training images, or to the mean image with noise.

        Args:
            images: (N, C, H, W), in [0, 1].

        Raises:
            ConfigError: if they lie outside [0, 1].
        """
        if images.min() < 0 or images.max() > 1:
            hint = (
                "has pseudo-inputs of pixels in [0, 1], and the data are real numbers; use prior=mixture or prior=flow"
            )
            raise ConfigError("prior", "vamp", hint, located=True)
        count = len(self.logits)
        if self.from_data:
            rounds = -(-count // len(images))  # use every image once before using any of them again
            order = torch.cat([torch.randperm(len(images)) for _ in range(rounds)])[:count]
            self.logits.copy_(torch.logit(images[order].clamp(PIXEL_RANGE, 1 - PIXEL_RANGE)))
            # Equal pseudo-inputs have equal gradients and would stay equal, so add noise to repeated images.
            repeated = self.logits[len(images) :]
            repeated += STARTING_NOISE * torch.randn_like(repeated)
        else:
            self.logits.add_(torch.logit(images.mean(dim=0).clamp(PIXEL_RANGE, 1 - PIXEL_RANGE)))
