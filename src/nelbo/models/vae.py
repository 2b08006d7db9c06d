"""The variational autoencoder of Kingma & Welling 2014, with its five parts in five slots.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image. All log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import sample_with_density, temper
from nelbo.errors import ConfigError, number, positive_integer
from nelbo.heads import Likelihood, Posterior
from nelbo.models.images import check_form, check_pixels
from nelbo.nets import Net
from nelbo.priors import Prior
from nelbo.trace import Latent, Trace


class VAE(nn.Module):
    """p(z) p(x|z), with q(z|x) to fit it.

    Each slot arrives as a factory and gets its sizes here.

    Args:
        shape: (C, H, W) of the images.
        latent_dim: D.
        encoder: called with `shape`.
        posterior: called with the encoder's `out_shape` and D.
        prior: called with the event shape of z and `shape`.
        decoder: called with the shape of the code that the posterior makes of z, and `shape`.
        likelihood: called with the decoder's `out_shape` and `shape`.

    Raises:
        ConfigError: if `latent_dim` is not a positive whole number, or from a slot.
    """

    checks_pixels = False
    """Whether `encode` looks at all pixels: `nelbo.load` sets it, for nobody knows where its images will come from.

    A run has looked at its data once, before it trains. False also lets samples of a density be encoded, which lie
    outside [0, 1] as well.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent_dim: int,
        encoder: Callable[..., Net],
        posterior: Callable[..., Posterior],
        prior: Callable[..., Prior],
        decoder: Callable[..., Net],
        likelihood: Callable[..., Likelihood],
    ) -> None:
        super().__init__()
        if not isinstance(shape, list | tuple) or len(shape) != 3:
            raise ConfigError("shape", shape, "must be [channels, height, width]")
        self.shape = tuple(positive_integer(f"shape[{index}]", size) for index, size in enumerate(shape))
        self.latent_dim = positive_integer("latent_dim", latent_dim)
        self.encoder = encoder(self.shape)
        self.posterior = posterior(features_of(self.encoder, "encoder"), self.latent_dim)
        self.prior = prior(self.posterior.event_shape(self.latent_dim), self.shape)
        self.decoder = decoder(self.posterior.code_shape(self.latent_dim), self.shape)
        self.likelihood = likelihood(features_of(self.decoder, "decoder"), self.shape)

    def encode(self, x: Tensor) -> Distribution:
        """q(z|x), batch shape (B,), of images x (B, C, H, W) in [0, 1].

        Raises:
            ValueError: if the images have another shape than the model's, or are no floats; with `checks_pixels`, in
                eval mode, also if pixels lie outside [0, 1].
        """
        check_form(x, self.shape)
        if self.checks_pixels and not self.training:
            check_pixels(x, next(self.parameters()).dtype)
        q: Distribution = self.posterior(self.encoder(x))
        return q

    def decode(self, z: Tensor) -> Distribution:
        """p(x|z), with the leading shape of z (..., D), or (..., N, K) of one-hot codes."""
        px: Distribution = self.likelihood(self.decoder(self.posterior.embed(z)))
        return px

    def trace(self, x: Tensor, num_samples: int = 1) -> Trace:
        """One pass: S = `num_samples` samples of q(z|x), and p(x|z) at each.

        Args:
            x: (B, C, H, W) in [0, 1].
            num_samples: S.

        Raises:
            ValueError: for images that `encode` refuses.
        """
        q = self.encode(x)
        z, log_q = sample_with_density(q, num_samples)
        px = self.likelihood(self.decoder(self.posterior.embed(z, q)), x)
        return Trace(x, px, (Latent(q, self.prior(self.encode), z, log_q),))

    @torch.no_grad()
    def generate(self, n: int, temperature: float = 1.0) -> Distribution:
        """p(x|z) for n samples z ~ p(z), batch shape (n,); its `.mean` is the picture, its `.sample()` has the noise.

        Without gradients, so that pictures can be shown at once; those who want some `decode` samples of their own.

        Args:
            n: how many.
            temperature: the spread of p(z) is multiplied by it; 1 is the model itself.

        Raises:
            ConfigError: if `n` or `temperature` is not positive.
        """
        positive_integer("n", n)
        number("temperature", temperature, positive=True)
        return self.decode(temper(self.prior(self.encode), temperature).sample(torch.Size((n,))))

    def log_joint(self, x: Tensor, zs: Sequence[Tensor]) -> Tensor:
        """Log p(x, z), (S, B), of images x (B, C, H, W) and one tensor z (S, B, D).

        Raises:
            ValueError: if x has another shape than the model's images, or is no tensor of floats.
        """
        check_form(x, self.shape)
        (z,) = zs
        log_joint: Tensor = self.decode(z).log_prob(x) + self.prior(self.encode).log_prob(z)
        return log_joint

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Take starting values from training images (N, C, H, W) in [0, 1]: once before training, never on loading."""
        self.likelihood.initialize(images)
        self.prior.initialize(images)

    def advance(self, step: float) -> dict[str, float]:
        """Set scheduled scalars of heads to their values at `step`, and say them; `math.inf` for the final ones."""
        return self.posterior.advance(step) | self.likelihood.advance(step)


def features_of(net: nn.Module, slot: str) -> tuple[int, ...]:
    """The shape of a net's features.

    Raises:
        ConfigError: if it says none, as `nelbo.nets.Net` does.
    """
    shape = getattr(net, "out_shape", None)
    if not isinstance(shape, tuple):
        hint = "has no out_shape: derive it from nelbo.nets.Net and call super().__init__(in_shape, out_shape, layers)"
        raise ConfigError(slot, type(net).__name__, hint)
    return shape
