"""Conditional models as measures see them: each image with its own condition.

Shapes: B batch, N examples of a split, C H W image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.evaluation.batch_model import BatchModel
from nelbo.evaluation.findings import NotApplicable
from nelbo.models import NO_CONTEXT, Context, Inference, Model
from nelbo.models.context import required_names


class NeedsCondition(NotApplicable):
    """A measure does not give the model the condition of its images."""


DrawContext = Callable[[int], Context]
"""Returns the context of a number of examples, drawn at random from data, (n, ...) each."""


class ConditionalModel(BatchModel):
    """p(x|y) and q(z|x, y) with the condition y of each image that a measure is given.

    Within `given(context)` the model is that of a batch with its context. Outside of it, `generate` draws a condition
    of the data for each sample, so that its samples are of the average of p(x|y) over the data's y; a prior that
    depends on y, and images of unknown y, are refused.

    Args:
        model: a model that takes a context from the data.
        draw: draws contexts of examples.
    """

    def __init__(self, model: Model, draw: DrawContext) -> None:
        super().__init__(model)
        self._draw = draw

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return what inference takes from the images of the batch; see `Model.infer`.

        Raises:
            NeedsCondition: outside of `given_batch`.
        """
        self._require({**self.setting, **context})
        return super().infer(x, context)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(z) of the top level, batch shape (), or (B,) if it depends on the condition.

        Raises:
            NeedsCondition: if it does, outside of `given_batch`.
        """
        if self.conditioning is not None and self.conditioning.conditions_prior:
            self._require({**self.setting, **context})
        return super().top_prior(context)

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z, y) of the batch; see `Model.decode`.

        Raises:
            NeedsCondition: outside of `given_batch`.
        """
        self._require({**self.setting, **context})
        return super().decode(*zs, context=context)

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(z|y) of the batch; see `Model.log_prior`.

        Raises:
            NeedsCondition: outside of `given_batch`.
        """
        self._require({**self.setting, **context})
        return super().log_prior(*zs, context=context)

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return z of every level of the batch; see `Model.unfold`.

        Raises:
            NeedsCondition: outside of `given_batch`.
        """
        self._require({**self.setting, **context})
        return super().unfold(top, noise, context)

    @torch.no_grad()
    def generate(
        self, n: int, temperature: float | Sequence[float] = 1.0, context: Context = NO_CONTEXT
    ) -> Distribution:
        """Return p(x|z, y) for n samples z ~ p(z|y), with conditions y of the data drawn at random."""
        return self.model.generate(n, temperature, {**self._draw(n), **context})

    def _require(self, known: Context) -> None:
        if missing := [name for name in required_names(self.model) if name not in known]:
            given = ", ".join(f"at.{name}=..." for name in missing)
            names = ", ".join(missing)
            raise NeedsCondition(f"needs {names} of each image, which this measure does not give; use {given}")
