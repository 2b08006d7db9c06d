"""The variational autoencoder of Kingma & Welling 2014, assembled from five components.

Shapes: S Monte Carlo samples, B batch, D latent dimensions, C H W image. All log-probabilities are in nats.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import sample_at
from nelbo.errors import ConfigError, positive_integer
from nelbo.heads import Likelihood, Posterior
from nelbo.models.conditioning import Conditioning, check_conditioning
from nelbo.models.context import NO_CONTEXT, Context, call_with
from nelbo.models.images import image_shape
from nelbo.models.inference import Inference
from nelbo.models.masked_inputs import MaskedInputs, of_observed, with_means
from nelbo.models.model import Model
from nelbo.models.nesting import Nesting
from nelbo.models.rates import ManyRates
from nelbo.models.surface import Surface
from nelbo.models.table_inputs import TableInputs
from nelbo.models.temperature import levels_of
from nelbo.nets import Net
from nelbo.priors import Prior
from nelbo.trace import Trace

if TYPE_CHECKING:
    from nelbo.models.bound import BoundModel


class VAE(Model):
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
        shape: (C, H, W) of the images, or (D,) of vectors.
        latent_dim: D.
        encoder: factory of the encoder network, called with `shape`.
        posterior: factory of q(z|x), called with the encoder's `out_shape` and D.
        prior: factory of p(z), called with the event shape of z and `shape`.
        decoder: factory of the decoder network, called with the shape of the posterior's embedding of z, and `shape`.
        likelihood: factory of p(x|z), called with the decoder's `out_shape` and `shape`.
        rates: factory of the gates of a model for many betas (`ManyRates`), called with encoder, decoder and D; None
            for none, as in the other two without a key of this name.
        nesting: factory of latents of which the first K are a model for every K (`Nesting`), called with D; or None.
        conditioning: factory of what the model is conditioned on, such as labels (`Conditioning`); or None.
        inputs: factory of what the encoder is given of x (`TableInputs`, `MaskedInputs`), called with `shape`; or None.

    Raises:
        ConfigError: if `shape` is not one or three positive integers, `latent_dim` is not one, or a factory raises it;
            with `rates`, `nesting` or `conditioning`, if posterior, prior or likelihood do not go with them.
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
        rates: Callable[..., ManyRates] | None = None,
        nesting: Callable[..., Nesting] | None = None,
        conditioning: Callable[[], Conditioning] | None = None,
        inputs: Callable[..., TableInputs | MaskedInputs] | None = None,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape)
        self.latent_dim = positive_integer("latent_dim", latent_dim)
        condition = self.conditioning = None if conditioning is None else conditioning()
        self.inputs = None if inputs is None else inputs(self.shape)
        self.encoder = encoder(self.shape if self.inputs is None else self.inputs.out_shape)
        features = feature_shape(self.encoder, "encoder")
        self.posterior = posterior(features if condition is None else condition.join(features), self.latent_dim)
        self.events = (self.posterior.event_shape(self.latent_dim),)
        self.prior = prior(self.events[0], self.shape)
        code = self.posterior.code_shape(self.latent_dim)
        self.decoder = decoder(code if condition is None else condition.join(code), self.shape)
        self.likelihood = likelihood(feature_shape(self.decoder, "decoder"), self.shape)
        if isinstance(self.inputs, MaskedInputs):
            self.inputs.check(self.likelihood)
        self.surface: Surface | None = None
        if rates or nesting:
            gates = rates(self.encoder, self.decoder, self.latent_dim) if rates else None
            self.surface = Surface(gates, nesting(self.latent_dim) if nesting else None)
            self.surface.check(self.posterior, self.prior, self.likelihood)
        if condition is not None:
            check_conditioning(condition, self.prior, self.surface)
            condition.build([self.encoder, self.decoder], self.latent_dim)

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return the encoder's features of x, q(z|x) and p(z); see `Model.infer`.

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape; with `checks_pixels`, in eval
                mode, also if pixels lie outside [0, 1].
        """
        context = self._whole(context, x.shape[0])
        features = self.encoder_features(x, context)

        def head(features: Tensor) -> Distribution:
            return self._q(features, context)

        p, surface = self.top_prior(context), self.surface
        restrict = None if surface is None else partial(surface.first_units, context=context)
        return Inference(head(features), p, features, head, context=context, restrict=restrict)

    def encode(self, x: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return q(z|x), batch shape (B,).

        Args:
            x: images, (B, C, H, W), in [0, 1].
            context: what the model is conditioned on, each value (B, ...).

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape; with `checks_pixels`, in eval
                mode, also if pixels lie outside [0, 1].
        """
        context = self._whole(context, x.shape[0])
        return self._q(self.encoder_features(x, context), context)

    def encoder_features(self, x: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return the encoder's features of images that were checked, (B, ...)."""
        self.check_images(x)
        with self._at(context):
            inputs = x if self.inputs is None else call_with(self.inputs, x, context=context)
            features: Tensor = call_with(self.encoder, inputs, context=context)
        if self.conditioning is None:
            return features
        return self.conditioning.joined(features, context, features.ndim - 1)

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        """Draw S samples of q(z|x) for each image and evaluate p(x|z) at them; see `Model.draw`."""
        latent = inference.draw_top(x.shape[0], num_samples, mode=mode, from_prior=prior_from == 0)
        features = self._decoder_features(self.posterior.embed(latent.z, latent.q), inference.context)
        px = call_with(self.likelihood, features, x, context=inference.context)
        px = of_observed(px, self.inputs, self.likelihood, inference.context)
        return Trace(x, px, (latent,), inference.context)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(z), batch shape (), or (B,) if it depends on the context."""
        if self.surface is None:
            p: Distribution = call_with(self.prior, self.encode, context=context)
            return p if self.conditioning is None else self.conditioning.prior_of(p, context)
        return self.surface.first_units(call_with(self.prior, self._encode_all_units, context=context), context)

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        """Return n samples z ~ p(z), (n, *event), as a tuple of one; see `Model.sample`."""
        if above:
            return tuple(above)
        return (sample_at(self.top_prior(context), n, levels_of(temperature, 1)[0]),)

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z), whose batch shape is the leading shape of z.

        Args:
            zs: z alone: latents, (..., D), or one-hot codes, (..., N, K).
            context: what the model is conditioned on.
        """
        (z,) = zs
        context = self._whole(context, 1)
        features = self._decoder_features(self.posterior.embed(z), context)
        px: Distribution = call_with(self.likelihood, features, context=context)
        return of_observed(px, self.inputs, self.likelihood, context)

    def _whole(self, context: Context, count: int) -> Context:
        """Return the context with the settings that it lacks, where the model is trained for many."""
        return context if self.surface is None else self.surface.complete(context, count)

    def _at(self, context: Context) -> contextlib.AbstractContextManager[None]:
        """Return a context within which the networks compute at the settings of `context`."""
        return self.conditioned(context) if self.surface is None else self.surface.at(context)

    def _q(self, features: Tensor, context: Context) -> Distribution:
        """Return q(z|x) of the encoder's features, at the settings of `context`."""
        q: Distribution = call_with(self.posterior, features, context=context)
        return q if self.surface is None else self.surface.posterior(q, context)

    def _encode_all_units(self, x: Tensor) -> Distribution:
        """Return q(z|x) of all latents, the same for every number of them: a component of a mixture of posteriors."""
        q: Distribution = call_with(self.posterior, self.encoder_features(x), context=NO_CONTEXT)
        return q

    def _decoder_features(self, code: Tensor, context: Context) -> Tensor:
        """Return the decoder's features of a code (..., *code_shape), at the settings of `context`."""
        code = code if self.surface is None else self.surface.code(code, context)
        if self.conditioning is not None:
            code = self.conditioning.joined(code, context, len(self.posterior.code_shape(self.latent_dim)))
        with self._at(context):
            features: Tensor = call_with(self.decoder, code, context=context)
        return features

    def features(self, *zs: Tensor) -> Tensor:
        """Return z as vectors, (..., F), or the codebook's entries: what the decoder is given, before gates."""
        (z,) = zs
        leading = z.shape[: z.ndim - len(self.events[0])]
        return self.posterior.embed(z).reshape(*leading, -1)

    @property
    def feature_size(self) -> int:
        """The number of numbers in `features`."""
        return math.prod(self.posterior.code_shape(self.latent_dim))

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(z), (S, B), in nats."""
        (z,) = zs
        log_prior: Tensor = self.top_prior(context).log_prob(z)
        return log_prior

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return z alone: there is no level below the top."""
        return (top,)

    def draw_context(self, count: int) -> Context:
        """Return settings for a batch of training images, if the model is trained for many."""
        return super().draw_context(count) if self.surface is None else self.surface.draw(count)

    def at(self, **setting: Any) -> BoundModel:
        """Return the model at one setting, such as `model.at(beta=0.5, latent_dim=8)`; see `Model.at`.

        Raises:
            ConfigError: for a name or a value that the model is not trained for.
        """
        return super().at(**(setting if self.surface is None else self.surface.setting(setting)))

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Context = NO_CONTEXT) -> None:
        """Initialise encoder, likelihood and prior from training images; see `Model.initialize`."""
        if self.inputs is not None:
            self.inputs.initialize(images, context)
            images = with_means(images, self.inputs, context)
        if isinstance(self.encoder, Net):  # of another module only `out_shape` is asked for
            self.encoder.initialize(images if self.inputs is None else call_with(self.inputs, images, context=context))
        super().initialize(images, context)
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
