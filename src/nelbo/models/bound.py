"""A model with a context bound, so that it can be used as one of x alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal
from nelbo.distributions.columns import OBSERVED
from nelbo.errors import ConfigError
from nelbo.models.context import NO_CONTEXT, Context
from nelbo.models.inference import Inference
from nelbo.models.model import Model
from nelbo.trace import Trace

if TYPE_CHECKING:
    from nelbo.models.vae import VAE


class BoundModel(Model):
    """p(x|context) and q(z|x, context) at one value of the context for all examples, or at those of a batch.

    Args:
        model: the model, which shares its parameters.
        setting: one value for each name: a number, or a tensor of what one example has.
        each: whether the values are those of the B examples of a batch instead, (B, ...).

    Raises:
        ConfigError: for a name that no part of the model takes.
    """

    def __init__(self, model: Model, setting: Mapping[str, Any], *, each: bool = False) -> None:
        super().__init__()
        if OBSERVED in setting and not each:
            raise ConfigError("context", OBSERVED, "is not bound: the data say which entries were observed")
        for name in setting:
            if name not in model.context_names:
                known = ", ".join(model.context_names)
                hint = f"is not among what this model is conditioned on: {known}" if known else "this model takes none"
                raise ConfigError("context", name, hint)
        self.model, self.setting, self.each = model, dict(setting), each
        self.shape, self.events, self.likelihood = model.shape, model.events, model.likelihood
        self.conditioning, self.value_range = model.conditioning, model.value_range
        self.train(model.training)

    @property
    def context_names(self) -> tuple[str, ...]:
        """The names of the context that is not bound."""
        return tuple(name for name in self.model.context_names if name not in self.setting)

    @property
    def inferred_names(self) -> tuple[str, ...]:
        """The names of the context that the model infers and that are not bound."""
        return tuple(name for name in self.model.inferred_names if name not in self.setting)

    def bound(self, count: int, context: Context) -> Context:
        """Return the whole context of a batch, each value (B, ...).

        Args:
            count: B.
            context: the entries that are not bound.

        Raises:
            ValueError: if the values are those of another number of examples.
        """
        like = next(self.model.parameters())
        values = {name: torch.as_tensor(value, device=like.device) for name, value in self.setting.items()}
        if not self.each:
            return {**context, **{name: value.expand(count, *value.shape) for name, value in values.items()}}
        for name, value in values.items():
            if len(value) != count:
                raise ValueError(f"{name} is bound to the values of {len(value)} examples, not of {count}")
        return {**context, **values}

    def at(self, **setting: Any) -> BoundModel:
        """Return the model with more of its context bound; see `Model.at`.

        Raises:
            ConfigError: for a name that no part of the model takes, or that is bound already.
        """
        more = self.model.at(**setting)
        for name in setting:
            if more.setting.keys() & self.setting.keys():
                raise ConfigError(name, setting[name], "the model is bound already; call `at` of the model itself")
        return BoundModel(self.model, {**self.setting, **more.setting})

    def folded(self) -> VAE:
        """Return an ordinary VAE with the same distributions and parameters of its own; see `nelbo.models.folding`.

        Raises:
            ConfigError: if the model is not a VAE that was trained for many settings, if one of them is not bound, or
                if a part of the model cannot be folded.
        """
        from nelbo.models.folding import fold

        return fold(self)

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return what inference takes from x at the bound context; see `Model.infer`."""
        self.check_images(x)
        return self.model.infer(x, self.bound(x.shape[0], context))

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        """Draw samples of q(z|x) at the context of `inference`; see `Model.draw`."""
        return self.model.draw(x, inference, num_samples, mode=mode, prior_from=prior_from)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(z) of the top level at the bound context, batch shape (), or (1,) if it depends on a setting.

        If the context is that of each of B examples, the batch shape is (B,) in place of (1,).
        """
        count = len(next(iter(self.setting.values()))) if self.each and self.setting else 1
        p = self.model.top_prior(self.bound(count, context))
        if self.conditioning is not None and not self.each and isinstance(p, DiagonalNormal) and p.batch_shape:
            return DiagonalNormal(p.loc[0], p.scale[0])
        return p

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        """Return n samples z ~ p(z) at the bound context; see `Model.sample`."""
        return self.model.sample(n, temperature, above=above, context=self.bound(n, context))

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z) at the bound context; see `Model.decode`."""
        return self.model.decode(*zs, context=self._of(zs, context))

    def features(self, *zs: Tensor) -> Tensor:
        """Return codes as vectors; see `Model.features`."""
        return self.model.features(*zs)

    @property
    def feature_size(self) -> int:
        """The number of numbers in `features` of the top level."""
        return self.model.feature_size

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(z) at the bound context; see `Model.log_prior`."""
        return self.model.log_prior(*zs, context=self._of(zs, context))

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return z of every level at the bound context; see `Model.unfold`."""
        return self.model.unfold(top, noise, self._of((top,), context))

    def initialize(self, images: Tensor, context: Context = NO_CONTEXT) -> None:
        """Initialise parts of the model from training images; see `Model.initialize`."""
        self.model.initialize(images, context)

    def example_context(self, count: int) -> Context:
        """Return a context for `count` examples of what is not bound."""
        whole = self.model.example_context(count)
        return {name: value for name, value in whole.items() if name not in self.setting}

    def advance(self, step: float) -> dict[str, float]:
        """Set the scheduled parameters of the heads to their values at `step` and return them by name."""
        return self.model.advance(step)

    def _of(self, zs: Sequence[Tensor], context: Context) -> Context:
        """Return the whole context of z, whose last leading dimension is the batch."""
        rank = zs[0].ndim - len(self.events[0])
        return self.bound(zs[0].shape[rank - 1] if rank else 1, context)
