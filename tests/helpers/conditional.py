"""Models that are conditioned on a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal
from nelbo.models import VAE, LadderVAE

LABELS = 3

Conditional = TypeVar("Conditional", VAE, LadderVAE)


class Labelled(nn.Module):
    """A part that has a vector for each label.

    Args:
        size: of the vectors.
        label: the label that is always used, so that the part takes no context; None to take that of the context.
    """

    def __init__(self, size: int, label: int | None) -> None:
        super().__init__()
        self.label = label
        self.context_names = ("label",) if label is None else ()
        self.vectors = nn.Parameter(torch.randn(LABELS, size))

    def vector(self, context: Mapping[str, Tensor] | None) -> Tensor:
        """Return the vector of each example, (B, size), or the one that is always used, (size,)."""
        if self.label is not None:
            return self.vectors[self.label]
        assert context is not None
        return self.vectors[context["label"]]


class LabelledPrior(Labelled):
    """p(z|label) = N(vector, I)."""

    def forward(self, encode: object, context: Mapping[str, Tensor] | None = None) -> Distribution:
        loc = self.vector(context)
        return DiagonalNormal(loc, torch.ones_like(loc))

    def initialize(self, images: Tensor) -> None:
        """Keep the vectors."""


class LabelledFeatures(Labelled):
    """A likelihood that adds the vector of the label to the features."""

    def __init__(self, likelihood: nn.Module, size: int, label: int | None) -> None:
        super().__init__(size, label)
        self.likelihood = likelihood

    def forward(
        self, features: Tensor, x: Tensor | None = None, context: Mapping[str, Tensor] | None = None
    ) -> Distribution:
        px: Distribution = self.likelihood(features + self.vector(context), x)
        return px


def conditioned(model: Conditional, label: int | None = None) -> Conditional:
    """Make p(z) and p(x|z) depend on a label, and return the model.

    Args:
        model: with a decoder whose features are a vector.
        label: the label that is always used, so that the model takes no context; None to take that of the context.
    """
    (size,) = model.decoder.out_shape
    parts: Any = LabelledPrior(model.events[0][0], label), LabelledFeatures(model.likelihood, size, label)
    model.prior, model.likelihood = parts
    return model
