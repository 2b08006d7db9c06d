"""The protocol of all models: what training, evaluation, pictures and loading know of a model.

Shapes: S Monte Carlo samples, B batch, C H W image. z of a level has an event shape of any rank, such as (D,). In nats.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.errors import number, positive_integer
from nelbo.heads import Likelihood
from nelbo.models.context import NO_CONTEXT, Context, initialize_with, names_of
from nelbo.models.images import check_form, check_pixels
from nelbo.models.inference import Inference
from nelbo.trace import Trace

if TYPE_CHECKING:
    from nelbo.models.bound import BoundModel
    from nelbo.models.conditioning import Conditioning


class Model(nn.Module):
    """A latent variable model p(z) p(x|z) with one or several levels of z, and an approximate posterior q(z|x).

    With L levels p(z) = p(z_1) p(z_2|z_1) ... p(z_L|z_1..z_{L-1}), where level 1 is the top, and q(z|x) has the same
    order. Subclasses define `infer`, `draw`, `top_prior`, `sample`, `decode`, `log_prior` and `unfold`; the rest
    follows from these.
    """

    shape: tuple[int, ...]
    """(C, H, W) of the images x, or (D,) of vectors."""

    events: tuple[tuple[int, ...], ...]
    """The event shapes of z by level, top first: (D,), (C, h, w), or (N, K) for N one-hot codes of K classes."""

    likelihood: Likelihood
    """The head that makes p(x|z) of features."""

    checks_pixels = False
    """Whether `infer` and `encode` check in eval mode that pixels lie in [0, 1], or are finite if they are real.

    `nelbo.load` sets it, because the images that a loaded model is given are not checked elsewhere. Training checks its
    data once, before it starts. Samples of a density, which may lie outside [0, 1], can only be encoded without it.
    """

    value_range: tuple[float, float] | None = None
    """Of a model of real-valued data, the values that pictures show as black and white; None for x in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioning: Conditioning | None = None
        """What of the data the model is conditioned on, such as labels; None for a model of x alone."""

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return what inference takes from x, once: the encoder's pass, and q and p of the top level.

        Args:
            x: images, (B, C, H, W), in [0, 1].
            context: what the model is conditioned on, each value (B, ...).

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape; with `checks_pixels`, in eval
                mode, also if pixels lie outside [0, 1].
        """
        raise NotImplementedError

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        """Draw S samples of q(z|x) for each image and evaluate p(x|z) at them.

        Args:
            x: images, (B, C, H, W), in [0, 1].
            inference: `infer(x)`.
            num_samples: S.
            mode: whether every level takes the mode (of a Gaussian, its mean) of q in place of a sample.
            prior_from: number of levels, from the top, that are drawn from q; those below are drawn from p(z|above),
                so that `log_weight` gives the bound of the upper levels alone. None for all.
        """
        raise NotImplementedError

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(z) of the top level, batch shape (), or (B,) if it depends on the context."""
        raise NotImplementedError

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        """Return n samples z ~ p(z) of every level, top first, (n, *event) each.

        Args:
            n: the number of samples.
            temperature: factor on the spread of p(z), one number or one for each level; 1 is the model itself, 0 its
                mode.
            above: given z of the upper levels, (n, *event) each; the levels below are drawn from p(z|above).
            context: what the model is conditioned on, each value (n, ...).
        """
        raise NotImplementedError

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z), whose batch shape is the leading shape of z.

        Args:
            zs: z of every level, top first, (..., *event) each.
            context: what the model is conditioned on.
        """
        raise NotImplementedError

    def features(self, *zs: Tensor) -> Tensor:
        """Return codes as vectors that can be compared, (..., F): what the decoder is given of z, flattened.

        Args:
            zs: z, or its mean, of one or several levels, top first, (..., *event) each.
        """
        raise NotImplementedError

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(z) of all levels, (S, B), in nats.

        Args:
            zs: z of every level, top first, (S, B, *event) each.
            context: what the model is conditioned on.
        """
        raise NotImplementedError

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return z of every level from z of the top level and the noise of the levels below.

        A level z = mu(above) + sigma(above) * noise is N(mu, sigma^2), so p(z) of these coordinates is
        p(z_1) N(noise; 0, I), whose geometry is simpler than that of z.

        Args:
            top: z of the top level, (S, B, *event).
            noise: standard normal numbers, (S, B, `noise_size`).
            context: what the model is conditioned on.
        """
        raise NotImplementedError

    @property
    def noise_size(self) -> int:
        """The number of elements of z below the top level, of which `unfold` takes the noise."""
        return sum(math.prod(event) for event in self.events[1:])

    @property
    def feature_size(self) -> int:
        """The number of numbers in `features` of the top level."""
        return math.prod(self.events[0])

    @property
    def units(self) -> int:
        """The number of latent units of all levels: dimensions of vectors, channels of maps, variables of codes."""
        return sum(event[0] for event in self.events)

    @property
    def support_hint(self) -> str:
        """What to do about pixels outside the support of p(x|z), for error messages."""
        return self.likelihood.hint

    @property
    def context_names(self) -> tuple[str, ...]:
        """The names of the context that the parts of the model take, sorted."""
        return tuple(sorted({name for part in self.modules() if part is not self for name in names_of(part)}))

    @property
    def inferred_names(self) -> tuple[str, ...]:
        """The names of the context that the model infers where they are unknown; evaluation withholds them."""
        return ()

    def example_context(self, count: int) -> Context:
        """Return a context of `count` examples, from which shapes can be read; empty for a model of x alone."""
        return NO_CONTEXT if self.conditioning is None else self.conditioning.example(count)

    def conditioned(self, context: Context) -> contextlib.AbstractContextManager[None]:
        """Return a context manager within which the networks compute with the condition."""
        return contextlib.nullcontext() if self.conditioning is None else self.conditioning.at(context)

    def draw_context(self, count: int) -> Context:
        """Return what the model draws of its own context for B = `count` training images, each value (B, ...)."""
        return NO_CONTEXT

    def encode(self, x: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return q(z|x) of the top level, batch shape (B,).

        Arguments and errors are those of `infer`.
        """
        return self.infer(x, context).q

    def check_images(self, x: Tensor) -> None:
        """Check the images that inference is given; errors as of `infer`."""
        bounded = self.value_range is None
        check_form(x, self.shape, bounded=bounded)
        if self.checks_pixels and not self.training:
            check_pixels(x, next(self.parameters()).dtype, bounded=bounded)

    def trace(self, x: Tensor, num_samples: int = 1, context: Context = NO_CONTEXT) -> Trace:
        """Draw S samples of q(z|x) for each image and evaluate p(x|z) at them.

        Args:
            x: images, (B, C, H, W), in [0, 1].
            num_samples: S.
            context: what the model is conditioned on, each value (B, ...).

        Raises:
            ValueError: as `infer`.
        """
        return self.draw(x, self.infer(x, context), num_samples)

    @torch.no_grad()
    def generate(
        self, n: int, temperature: float | Sequence[float] = 1.0, context: Context = NO_CONTEXT
    ) -> Distribution:
        """Return p(x|z) for n samples z ~ p(z), batch shape (n,), without gradients.

        Its `mean` is the picture without pixel noise; its `sample()` is a draw from p(x).

        Args:
            n: the number of samples.
            temperature: factor on the spread of p(z), one number or one for each level; 1 is the model itself.
            context: what the model is conditioned on, each value (n, ...).

        Raises:
            ConfigError: if `n` or `temperature` is not positive.
        """
        positive_integer("n", n)
        for factor in [temperature] if isinstance(temperature, int | float) else temperature:
            number("temperature", factor, positive=True)
        return self.decode(*self.sample(n, temperature, context=context), context=context)

    def log_joint(self, x: Tensor, zs: Sequence[Tensor], context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(x, z), (S, B), in nats.

        Args:
            x: images, (B, C, H, W).
            zs: the latents of each level, top first, (S, B, *event) each.
            context: what the model is conditioned on.

        Raises:
            ValueError: if `x` is not a floating-point tensor of the model's image shape.
        """
        check_form(x, self.shape)
        log_joint: Tensor = self.decode(*zs, context=context).log_prob(x) + self.log_prior(*zs, context=context)
        return log_joint

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Context = NO_CONTEXT) -> None:
        """Initialise parts of the model from training images, once, before training; not of a loaded checkpoint.

        Args:
            images: (N, C, H, W), in [0, 1].
            context: what is known of the same examples, (N, ...) each.
        """
        initialize_with(self.likelihood, images, context)
        if self.conditioning is not None:
            self.conditioning.initialize(context)

    def advance(self, step: float) -> dict[str, float]:
        """Set the scheduled parameters of the heads to their values at `step` and return them by name.

        Args:
            step: the optimiser step; `math.inf` selects the final values.
        """
        return self.likelihood.advance(step)

    def at(self, **setting: Any) -> BoundModel:
        """Return a model with a context bound, p(x|context), such as `model.at(label=3)`.

        Args:
            setting: one value for each name, a number or a tensor of what one example has.

        Raises:
            ConfigError: for a name that no part of the model takes, or a label that is not one of its classes.
        """
        from nelbo.models.bound import BoundModel

        bound = BoundModel(self, setting)
        if self.conditioning is not None:
            self.conditioning.check(setting)
        return bound

    def given(self, context: Context) -> BoundModel:
        """Return the model of a batch, with the context of each of its examples bound.

        Args:
            context: each value (B, ...).
        """
        from nelbo.models.bound import BoundModel

        return BoundModel(self, context, each=True)
