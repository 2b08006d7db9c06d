"""The variational autoencoder of Kingma & Welling 2014, assembled from five components.

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
    """A latent variable model p(z) p(x|z) with an approximate posterior q(z|x).

    Each component is given as a factory, which is called here with the sizes that it needs.

    Example:
        >>> from functools import partial
        >>> from nelbo.heads import Bernoulli, DiagonalNormalPosterior
        >>> from nelbo.nets import MLP
        >>> from nelbo.priors import StandardNormal
        >>> net = partial(MLP, hidden=[64], activation="Tanh")
        >>> vae = VAE(shape=(1, 8, 8), latent_dim=4, encoder=net, posterior=DiagonalNormalPosterior,
        ...           prior=StandardNormal, decoder=net, likelihood=Bernoulli)
        >>> trace = vae.trace(torch.rand(16, 1, 8, 8).round(), num_samples=3)
        >>> trace.log_px.shape, trace.kl.shape  # (S, B), in nats
        (torch.Size([3, 16]), torch.Size([3, 16]))
        >>> vae.generate(5).mean.shape
        torch.Size([5, 1, 8, 8])

    Args:
        shape: (C, H, W) of the images.
        latent_dim: D.
        encoder: factory of the encoder network, called with `shape`.
        posterior: factory of q(z|x), called with the encoder's `out_shape` and D.
        prior: factory of p(z), called with the event shape of z and `shape`.
        decoder: factory of the decoder network, called with the shape of the posterior's embedding of z, and `shape`.
        likelihood: factory of p(x|z), called with the decoder's `out_shape` and `shape`.

    Raises:
        ConfigError: if `shape` is not three positive integers or `latent_dim` is not one, or if a factory raises it.
    """

    checks_pixels = False
    """Whether `encode` checks in eval mode that all pixels lie in [0, 1].

    `nelbo.load` sets it, because the images that a loaded model is given are not checked elsewhere. Training checks its
    data once, before it starts. Samples of a density, which may lie outside [0, 1], can only be encoded without it.
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
        self.posterior = posterior(feature_shape(self.encoder, "encoder"), self.latent_dim)
        self.prior = prior(self.posterior.event_shape(self.latent_dim), self.shape)
        self.decoder = decoder(self.posterior.code_shape(self.latent_dim), self.shape)
        self.likelihood = likelihood(feature_shape(self.decoder, "decoder"), self.shape)

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x), batch shape (B,).

        Args:
            x: images, (B, C, H, W), in [0, 1].

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape; with `checks_pixels`, in eval
                mode, also if pixels lie outside [0, 1].
        """
        check_form(x, self.shape)
        if self.checks_pixels and not self.training:
            check_pixels(x, next(self.parameters()).dtype)
        q: Distribution = self.posterior(self.encoder(x))
        return q

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z), whose batch shape is the leading shape of z.

        Args:
            z: latents, (..., D), or one-hot codes, (..., N, K).
        """
        px: Distribution = self.likelihood(self.decoder(self.posterior.embed(z)))
        return px

    def trace(self, x: Tensor, num_samples: int = 1) -> Trace:
        """Draw S samples of q(z|x) for each image and evaluate p(x|z) at them.

        Args:
            x: images, (B, C, H, W), in [0, 1].
            num_samples: S.

        Raises:
            ValueError: if `encode` rejects the images.
        """
        q = self.encode(x)
        z, log_q = sample_with_density(q, num_samples)
        px = self.likelihood(self.decoder(self.posterior.embed(z, q)), x)
        return Trace(x, px, (Latent(q, self.prior(self.encode), z, log_q),))

    @torch.no_grad()
    def generate(self, n: int, temperature: float = 1.0) -> Distribution:
        """Return p(x|z) for n samples z ~ p(z), batch shape (n,), without gradients.

        Its `mean` is the picture without pixel noise; its `sample()` is a draw from p(x).

        Args:
            n: the number of samples.
            temperature: factor on the spread of p(z); 1 is the model itself.

        Raises:
            ConfigError: if `n` or `temperature` is not positive.
        """
        positive_integer("n", n)
        number("temperature", temperature, positive=True)
        return self.decode(temper(self.prior(self.encode), temperature).sample(torch.Size((n,))))

    def log_joint(self, x: Tensor, zs: Sequence[Tensor]) -> Tensor:
        """Return log p(x, z), (S, B), in nats.

        Args:
            x: images, (B, C, H, W).
            zs: the latents of each level, here a single tensor (S, B, D).

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape.
        """
        check_form(x, self.shape)
        (z,) = zs
        log_joint: Tensor = self.decode(z).log_prob(x) + self.prior(self.encode).log_prob(z)
        return log_joint

    @torch.no_grad()
    def initialize(self, images: Tensor) -> None:
        """Initialise encoder, likelihood and prior from training images (N, C, H, W) in [0, 1].

        It is called once, before training, and not when a checkpoint is loaded.
        """
        if isinstance(self.encoder, Net):  # of another module only `out_shape` is asked for
            self.encoder.initialize(images)
        self.likelihood.initialize(images)
        self.prior.initialize(images)

    def advance(self, step: float) -> dict[str, float]:
        """Set the scheduled parameters of the heads to their values at `step` and return them by name.

        Args:
            step: the optimiser step; `math.inf` selects the final values.
        """
        return self.posterior.advance(step) | self.likelihood.advance(step)


def feature_shape(net: nn.Module, slot: str) -> tuple[int, ...]:
    """Return the shape of the features of a network, its `out_shape`.

    Args:
        net: the network.
        slot: the name of the component in the config, for the error message.

    Raises:
        ConfigError: if the network has no attribute `out_shape`, which `nelbo.nets.Net` provides.
    """
    shape = getattr(net, "out_shape", None)
    if not isinstance(shape, tuple):
        hint = "has no out_shape: derive it from nelbo.nets.Net and call super().__init__(in_shape, out_shape, layers)"
        raise ConfigError(slot, type(net).__name__, hint)
    return shape
