"""Top-down hierarchies: several levels of latents, each given those above it.

Shapes: S Monte Carlo samples, B batch, C H W image. Levels are numbered from the top, which is level 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal, sample_at
from nelbo.errors import ConfigError
from nelbo.heads import Likelihood, Posterior
from nelbo.models.conditioning import Conditioning, check_conditioning
from nelbo.models.context import NO_CONTEXT, Context, call_with
from nelbo.models.inference import Inference
from nelbo.models.level import Level
from nelbo.models.model import Model
from nelbo.models.temperature import levels_of
from nelbo.nets import Net
from nelbo.nets.pyramid import Pyramid
from nelbo.priors import Prior
from nelbo.trace import Latent, Trace

Choose = Callable[[int, DiagonalNormal, Tensor], Tensor]
"""A function from the number of a level below the top, its p(z|above) and its stream to z, (..., *event)."""


class Hierarchy(Model):
    """p(z_1) p(z_2|z_1) ... p(x|z_1..z_L), with inference from the top down, in the same order.

    q(z|x) = q(z_1|x) q(z_2|z_1, x) ..., where a deterministic pass of the encoder first makes features of x for every
    level (Sonderby et al. 2016; Kingma et al. 2016, section 5.2; Child 2021). The top level is a vector with any
    posterior of real numbers and any prior over vectors; the levels below are normal given those above.

    It is a composition that subclasses make: `LadderVAE` of dense parts, `TopDownVAE` of convolutional ones.

    Args:
        shape: (C, H, W) of the images.
        latent_dim: number of units of the top level.
        encoder: makes the features of every level.
        posterior: factory of q(z_1|x), called with the shape of the top level's features and `latent_dim`.
        prior: factory of p(z_1), called with the event shape of z_1 and `shape`.
        merge: maps z_1 to the stream, (M, latent_dim) to (M, *stream).
        start: shape of the stream at the top.
        levels: makes the levels below the top, given whether their q is relative to p.
        decoder: maps the last stream to features of the image.
        likelihood: factory of p(x|z), called with the decoder's `out_shape` and `shape`.

    Raises:
        ConfigError: if the posterior is not one over vectors of real numbers with a density.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        latent_dim: int,
        encoder: Pyramid,
        posterior: Callable[..., Posterior],
        prior: Callable[..., Prior],
        merge: nn.Module,
        start: Sequence[int],
        levels: Callable[[bool], Sequence[Level]],
        decoder: Net,
        likelihood: Callable[..., Likelihood],
    ) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = encoder
        self.posterior = posterior(encoder.top_shape, latent_dim)
        if not self.posterior.fits_hierarchies:
            hint = (
                "has no density over real numbers, which the levels of a hierarchy need; use "
                "posterior=diagonal_normal or residual_normal"
            )
            raise ConfigError("posterior", type(self.posterior).__name__, hint)
        self.prior = prior((latent_dim,), shape)
        self.merge = merge
        self.start = nn.Parameter(torch.zeros(tuple(start)))
        self.levels = nn.ModuleList(levels(self.posterior.relative_to_prior))
        self.decoder = decoder
        self.likelihood = likelihood(decoder.out_shape, shape)
        self.events = ((latent_dim,), *(level.event for level in self._below))

    @property
    def _below(self) -> list[Level]:
        """The levels below the top, from the top."""
        return list(self.levels)  # type: ignore[arg-type]

    def condition(self, conditioning: Callable[[], Conditioning] | None) -> None:
        """Give the networks a condition; the last thing that the constructor of a subclass does.

        Args:
            conditioning: factory of what the model is conditioned on; None for nothing.

        Raises:
            ConfigError: if the condition is to be concatenated, or the prior does not go with it.
        """
        if conditioning is None:
            return
        self.conditioning = conditioning()
        if self.conditioning.layers != "modulation":
            hint = "must be modulation in a model of several levels"
            raise ConfigError("layers", self.conditioning.layers, hint).within("conditioning")
        check_conditioning(self.conditioning, self.prior, None)
        self.conditioning.build([self.encoder, self.merge, self.levels, self.decoder], self.events[0][0])

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return the encoder's features of every level, and q and p of the top; see `Model.infer`."""
        top, *below = self._pyramid(x, context)

        def head(features: Tensor) -> Distribution:
            q: Distribution = call_with(self.posterior, features, context=context)
            return q

        return Inference(head(top), self.top_prior(context), top, head, tuple(below), context)

    def encode(self, x: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return q(z_1|x) of the top level, batch shape (B,); see `Model.encode`."""
        q: Distribution = call_with(self.posterior, self._pyramid(x, context)[0], context=context)
        return q

    def _pyramid(self, x: Tensor, context: Context) -> list[Tensor]:
        """Return the encoder's features of every level, of images that are checked."""
        self.check_images(x)
        with self.conditioned(context):
            return list(self.encoder(x))

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        """Draw S samples of every level, top first, and evaluate p(x|z) at them; see `Model.draw`."""
        latents = [inference.draw_top(x.shape[0], num_samples, mode=mode, from_prior=prior_from == 0)]

        def choose(number: int, p: DiagonalNormal, stream: Tensor) -> Tensor:
            from_prior = prior_from is not None and number >= prior_from
            q = p if from_prior else self._below[number - 1].posterior_of(stream, inference.below[number - 1], p)
            z = q.loc if mode else q.rsample()
            latents.append(Latent(q, p, z))
            return z

        with self.conditioned(inference.context):
            features = self.decoder(self._descend(latents[0].z, choose))
        px = call_with(self.likelihood, features, x, context=inference.context)
        return Trace(x, px, tuple(latents), inference.context)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(z_1), batch shape (), or (B,) if it depends on the context."""
        p: Distribution = call_with(self.prior, self.encode, context=context)
        return p if self.conditioning is None else self.conditioning.prior_of(p, context)

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        """Return n samples z ~ p(z) of every level, top first, (n, *event) each; see `Model.sample`."""
        temperatures = levels_of(temperature, len(self.events))
        zs = [above[0] if above else sample_at(self.top_prior(context), n, temperatures[0])]

        def choose(number: int, p: DiagonalNormal, stream: Tensor) -> Tensor:
            if number < len(above):
                z = above[number]
            else:
                z = p.loc if temperatures[number] == 0 else p.loc + temperatures[number] * (p.sample() - p.loc)
            zs.append(z)
            return z

        with self.conditioned(context):
            self._descend(zs[0], choose)
        return tuple(zs)

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z), whose batch shape is the leading shape of z.

        Args:
            zs: z of every level, top first, (..., *event) each.
            context: what the model is conditioned on.

        Raises:
            ValueError: if a level is missing; `sample(..., above=zs)` completes them.
        """
        self._require_all(zs)
        with self.conditioned(context):
            features = self.decoder(self._descend(zs[0], lambda number, p, stream: zs[number]))
        px: Distribution = call_with(self.likelihood, features, context=context)
        return px

    def features(self, *zs: Tensor) -> Tensor:
        """Return z of the given levels, flattened and joined, (..., F)."""
        ranks = [len(event) for event in self.events]
        return torch.cat([z.flatten(-rank) for z, rank in zip(zs, ranks, strict=False)], dim=-1)

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(z_1) + log p(z_2|z_1) + ..., (S, B), in nats."""
        self._require_all(zs)
        terms: list[Tensor] = [self.top_prior(context).log_prob(zs[0])]

        def choose(number: int, p: DiagonalNormal, stream: Tensor) -> Tensor:
            terms.append(p.log_prob(zs[number]))  # type: ignore[no-untyped-call]
            return zs[number]

        with self.conditioned(context):
            self._descend(zs[0], choose)
        total: Tensor = torch.stack(terms).sum(dim=0)
        return total

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return z of every level, top first, from z_1 and the noise of the levels below; see `Model.unfold`."""
        events = self.events[1:]
        parts = noise.split([math.prod(event) for event in events], dim=-1)
        zs = [top]

        def choose(number: int, p: DiagonalNormal, stream: Tensor) -> Tensor:
            z: Tensor = p.loc + p.scale * parts[number - 1].unflatten(-1, events[number - 1])
            zs.append(z)
            return z

        with self.conditioned(context):
            self._descend(top, choose)
        return tuple(zs)

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Context = NO_CONTEXT) -> None:
        """Initialise encoder, likelihood and prior from training images; see `Model.initialize`."""
        super().initialize(images, context)
        self.encoder.initialize(images)
        self.prior.initialize(images)

    def advance(self, step: float) -> dict[str, float]:
        """Set the scheduled parameters of the heads to their values at `step` and return them by name."""
        return self.posterior.advance(step) | self.likelihood.advance(step)

    def _descend(self, top: Tensor, choose: Choose) -> Tensor:
        """Go down the levels, with z of each as `choose` says, and return the last stream, (..., *stream).

        Args:
            top: z of the top level, (..., D).
            choose: makes z of each level below.
        """
        merged: Tensor = self.merge(top)
        stream = merged + self.start.to(merged.dtype)
        for number, level in enumerate(self._below, start=1):
            stream = level.begin(stream)
            p, features = level.prior_of(stream)
            stream = level.end(stream, features, choose(number, p, stream))
        return stream

    def _require_all(self, zs: Sequence[Tensor]) -> None:
        if len(zs) != len(self.events):
            raise ValueError(f"expected z of all {len(self.events)} levels, got {len(zs)}; see `Model.sample`")
