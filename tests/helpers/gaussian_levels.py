"""Small models with several levels of latents, whose exact likelihoods are known.

Shapes: S samples, B batch, P pixels, L levels of D_1, ..., D_L latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import BernoulliPixels, DiagonalNormal, NormalPixels, code_of, sample_at
from nelbo.heads import Likelihood
from nelbo.models import Inference, Model
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.temperature import levels_of
from nelbo.theory.gaussians import independent
from nelbo.theory.hierarchy import LinearHierarchy, LinearPosterior
from nelbo.trace import Latent, Trace
from tests.helpers.quadrature import integrate

Moments = tuple[Tensor, Tensor]
"""Location and scale, (..., D)."""


class GaussianLevels(Model):
    """A model with independent Gaussian units at each level, which subclasses give by location and scale.

    Args:
        shape: (C, H, W).
        events: event shapes of the levels, top first.
        likelihood: makes p(x|z) of all z, flattened and joined.
    """

    def __init__(self, shape: Sequence[int], events: Sequence[Sequence[int]], likelihood: Likelihood) -> None:
        super().__init__()
        self.shape, self.events = tuple(shape), tuple(map(tuple, events))
        self.likelihood = likelihood
        self.sizes = [math.prod(event) for event in self.events]

    def prior(self, level: int, above: Tensor) -> Moments:
        """Return location and scale, (..., D), of p(z|above), for the joined latents above, (..., K)."""
        raise NotImplementedError

    def posterior(self, level: int, features: Tensor, above: Tensor) -> Moments:
        """Return location and scale, (..., D), of q(z|above, x)."""
        raise NotImplementedError

    def encoded(self, level: int, x: Tensor) -> Tensor:
        """Return the features that a level takes from flattened images, (B, P) to (B, F)."""
        raise NotImplementedError

    def normal(self, level: int, moments: Moments) -> DiagonalNormal:
        event = self.events[level]
        loc, scale = (value.unflatten(-1, event) for value in moments)
        return DiagonalNormal(loc, scale.expand(loc.shape), event_dimensions=len(event))

    def joined(self, zs: Sequence[Tensor]) -> Tensor:
        """Return latents flattened and joined, (..., K)."""
        parts = [z.flatten(z.ndim - len(event)) for z, event in zip(zs, self.events, strict=False)]
        return torch.cat(parts, dim=-1)

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        self.check_images(x)
        top, *below = (self.encoded(level, x.flatten(1)) for level in range(len(self.events)))

        def head(features: Tensor) -> Distribution:
            return self.normal(0, self.posterior(0, features, features[:, :0]))

        return Inference(head(top), self.top_prior(context), top, head, tuple(below), context)

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        latents: list[Latent] = []
        zs: list[Tensor] = []
        for level in range(len(self.events)):
            above = self.joined(zs) if zs else x.new_zeros(num_samples, len(x), 0)
            p = inference.p if level == 0 else self.normal(level, self.prior(level, above))
            if prior_from is not None and level >= prior_from:
                q = p
            elif level == 0:
                q = inference.q
            else:
                features = inference.below[level - 1].expand(*above.shape[:-1], -1)
                q = self.normal(level, self.posterior(level, features, above))
            count = num_samples if level == 0 else 1
            lacking = (count, len(x)) if not q.batch_shape else (count,)
            z = code_of(q).unsqueeze(0) if mode else q.rsample(torch.Size(lacking))
            zs.append(z if level == 0 else z[0])
            latents.append(Latent(q, p, zs[-1]))
        return Trace(x, self.likelihood(self.joined(zs), x), tuple(latents), inference.context)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        like = next(self.parameters())
        return self.normal(0, self.prior(0, like.new_zeros(0)))

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        zs = list(above)
        for level, factor in list(enumerate(levels_of(temperature, len(self.events))))[len(zs) :]:
            p = self.top_prior(context) if level == 0 else self.normal(level, self.prior(level, self.joined(zs)))
            zs.append(sample_at(p, n, factor))
        return tuple(zs)

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        px: Distribution = self.likelihood(self.joined(zs))
        return px

    def features(self, *zs: Tensor) -> Tensor:
        return self.joined(zs)

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        total: Tensor = self.top_prior(context).log_prob(zs[0])
        for level in range(1, len(zs)):
            total = total + self.normal(level, self.prior(level, self.joined(zs[:level]))).log_prob(zs[level])
        return total

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        zs = [top]
        for level, part in enumerate(noise.split(self.sizes[1:], dim=-1), start=1):
            loc, scale = self.prior(level, self.joined(zs))
            zs.append((loc + scale * part).unflatten(-1, self.events[level]))
        return tuple(zs)


class LinearPixels(Likelihood):
    """p(x|z) = N(W z + b, diag(sigma^2)), or Bernoulli pixels with these logits."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: Sequence[int], sigma: Tensor | None) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.shape, self.sigma = tuple(shape), None if sigma is None else nn.Parameter(sigma)

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        pixels = (features @ self.weight.T + self.bias).unflatten(-1, self.shape)
        if self.sigma is None:
            return BernoulliPixels(pixels)
        return NormalPixels(pixels, self.sigma.reshape(self.shape))

    def initialize(self, images: Tensor) -> None:
        """Keep the given weights."""


class LinearLevels(GaussianLevels):
    """A linear Gaussian model; z of each level depends on all levels above it, and x on all levels.

    Args:
        events: event shapes of the levels, top first.
        shape: (C, H, W).
        seed: of the weights.
        binary: whether pixels are binary, with linear logits.
    """

    def __init__(
        self,
        events: Sequence[Sequence[int]],
        shape: Sequence[int] = (1, 2, 3),
        *,
        seed: int = 0,
        binary: bool = False,
    ) -> None:
        generator, pixels = torch.Generator().manual_seed(seed), math.prod(shape)

        def weights(*size: int, scale: float = 1.0) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*size, generator=generator, dtype=torch.float64))

        sizes = [math.prod(event) for event in events]
        latents = sum(sizes)
        sigma = None if binary else 0.5 + torch.rand(pixels, generator=generator, dtype=torch.float64)
        super().__init__(
            shape, events, LinearPixels(weights(pixels, latents, scale=0.5), weights(pixels), shape, sigma)
        )
        above = [sum(sizes[:level]) for level in range(len(sizes))]
        levels = list(zip(sizes, above, strict=True))
        self.p_matrix = nn.ParameterList([weights(size, known, scale=0.6) for size, known in levels])
        self.p_offset = nn.ParameterList([weights(size, scale=float(known > 0)) for size, known in levels])
        self.p_log_scale = nn.ParameterList([weights(size, scale=0.3 * (known > 0)) for size, known in levels])
        self.q_pixels = nn.ParameterList([weights(size, pixels, scale=0.3) for size in sizes])
        self.q_matrix = nn.ParameterList([weights(size, known, scale=0.3) for size, known in levels])
        self.q_offset = nn.ParameterList([weights(size) for size in sizes])
        self.q_log_scale = nn.ParameterList([weights(size, scale=0.3) for size in sizes])

    def prior(self, level: int, above: Tensor) -> Moments:
        return above @ self.p_matrix[level].T + self.p_offset[level], self.p_log_scale[level].exp()

    def posterior(self, level: int, features: Tensor, above: Tensor) -> Moments:
        return features + above @ self.q_matrix[level].T, self.q_log_scale[level].exp()

    def encoded(self, level: int, x: Tensor) -> Tensor:
        return x @ self.q_pixels[level].T + self.q_offset[level]

    @torch.no_grad()
    def exact(self) -> LinearHierarchy:
        """Return the same p, with its exact answers."""
        levels = zip(self.p_matrix, self.p_offset, self.p_log_scale, strict=True)
        head = self.likelihood
        assert isinstance(head, LinearPixels) and head.sigma is not None
        likelihood = independent(head.weight.detach(), head.bias.detach(), head.sigma.detach())
        return LinearHierarchy(tuple(independent(m.detach(), b.detach(), s.exp()) for m, b, s in levels), likelihood)

    @torch.no_grad()
    def exact_posterior(self) -> LinearPosterior:
        """Return the same q."""
        levels = zip(self.q_pixels, self.q_matrix, self.q_offset, self.q_log_scale, strict=True)
        return LinearPosterior(tuple(independent(torch.cat([x, m], 1), b.detach(), s.exp()) for x, m, b, s in levels))

    @torch.no_grad()
    def set_posterior(self, posterior: LinearPosterior) -> None:
        """Take the q of `posterior`, whose units must be independent given x and the levels above."""
        pixels = math.prod(self.shape)
        for level, gaussian in enumerate(posterior.levels):
            direct, above = gaussian.matrix.split([pixels, gaussian.inputs - pixels], dim=1)
            self.q_pixels[level].copy_(direct)
            self.q_matrix[level].copy_(above)
            self.q_offset[level].copy_(gaussian.offset)
            self.q_log_scale[level].copy_(gaussian.covariance.diagonal().sqrt().log())

    def widened(self, factor: float = 1.2) -> LinearLevels:
        """Take the best q with independent units, with all scales multiplied by a factor, and return the model."""
        self.set_posterior(self.exact().best_posterior(diagonal=True))
        with torch.no_grad():
            for log_scale in self.q_log_scale:
                log_scale += math.log(factor)
        return self


class Bent(Likelihood):
    """Bernoulli pixels with logits that are not linear in two scalar latents."""

    def __init__(self, weight: Tensor, bias: Tensor, shape: Sequence[int]) -> None:
        super().__init__()
        self.weight, self.bias, self.shape = nn.Parameter(weight), nn.Parameter(bias), tuple(shape)

    def forward(self, features: Tensor, x: Tensor | None = None) -> Distribution:
        first, second = features.unbind(-1)
        terms = torch.stack([torch.tanh(2 * first), second, first * second], dim=-1)
        return BernoulliPixels((terms @ self.weight.T + self.bias).unflatten(-1, self.shape))

    def initialize(self, images: Tensor) -> None:
        """Keep the given weights."""


class ScalarLevels(GaussianLevels):
    """Two scalar latents with a curved p(z_2|z_1) and binary pixels; log p(x) is known by quadrature.

    Args:
        shape: (C, H, W).
        seed: of the weights.
    """

    def __init__(self, shape: Sequence[int] = (1, 2, 3), *, seed: int = 0) -> None:
        generator, pixels = torch.Generator().manual_seed(seed), math.prod(shape)
        weight, bias, encoder = (
            torch.randn(*size, generator=generator, dtype=torch.float64)
            for size in ((pixels, 3), (pixels,), (2, pixels))
        )
        super().__init__(shape, [(1,), (1,)], Bent(1.5 * weight, bias, shape))
        self.encoder = nn.Parameter(0.5 * encoder)

    def prior(self, level: int, above: Tensor) -> Moments:
        if level == 0:
            zero = self.encoder.new_zeros(1)
            return zero, zero + 1
        return torch.sin(2 * above), 0.3 + torch.sigmoid(2 * above)

    def posterior(self, level: int, features: Tensor, above: Tensor) -> Moments:
        if level == 0:
            return features, 0.8 + 0 * features
        return features + torch.sin(2 * above), 0.3 + torch.sigmoid(2 * above)

    def encoded(self, level: int, x: Tensor) -> Tensor:
        return (x - 0.5) @ self.encoder[level].unsqueeze(-1)

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x), (B,), in nats, by quadrature."""

        def log_prior(first: Tensor, second: Tensor) -> Tensor:
            return self.log_prior(first.unsqueeze(-1), second.unsqueeze(-1))

        def log_likelihood(images: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
            def of(first: Tensor, second: Tensor) -> Tensor:
                log_px: Tensor = self.decode(first[:, None, None], second[:, None, None]).log_prob(images)
                return log_px.T

            return of

        images, positions = x.unique(dim=0, return_inverse=True)  # there are few different binary images
        with torch.no_grad():
            parts = [integrate(log_prior, log_likelihood(part), 1e-4).log_evidence for part in images.split(8)]
        return torch.cat(parts)[positions]
