"""A conditional model at the conditions that pictures show.

Shapes: B examples, N samples, K classes, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions.columns import OBSERVED
from nelbo.models import Context, Model
from nelbo.numerics.randomness import isolated
from nelbo.views.codes import modes
from nelbo.views.images import evenly_spaced

MOST_CLASSES = 20
"""The largest number of classes that a picture shows; of more it shows some, evenly spread."""


def given(model: Model, context: Context) -> Model:
    """Return the model with the context of each of B examples bound; the model itself if it takes none.

    Args:
        model: the model.
        context: what the data have of the names that the model is conditioned on, (B, ...) each.
    """
    return model.given(context) if context else model


def at_first(model: Model, context: Context) -> Model:
    """Return the model at the context of the first of the examples, for all images; the model itself if it takes none.

    Which of its pixels were observed is left out.

    Args:
        model: the model.
        context: what the data have of the names that the model is conditioned on, (B, ...) each.
    """
    first = {name: value[0] for name, value in context.items() if name != OBSERVED}
    return model.at(**first) if first else model


def at(context: Context, positions: Tensor) -> Context:
    """Return the context of some of its examples, those at `positions`."""
    return {name: value[positions.to(value.device)] for name, value in context.items()}


def class_name(model: Model) -> str | None:
    """Return the first name of the condition that stands for classes, such as `label`; None if there is none."""
    if model.conditioning is None:
        return None
    return next((name for name in model.conditioning.classes if name in model.context_names), None)


def shown_classes(model: Model) -> list[int]:
    """Return the classes that pictures show: all, or `MOST_CLASSES` of them; empty without any."""
    name = class_name(model)
    if name is None or model.conditioning is None:
        return []
    return evenly_spaced(model.conditioning.classes[name], MOST_CLASSES).tolist()


def sample_context(model: Model, context: Context, count: int, columns: int) -> Context:
    """Return the context of N samples in rows of `columns`: a class a row if there are classes, else of examples.

    With one row it is a class a column. Samples have no unknown pixels.

    Args:
        model: the model.
        context: that of B examples, which is repeated for names that are not classes.
        count: N.
        columns: the number of samples in a row.
    """
    repeated = {
        name: value[torch.arange(count, device=value.device) % len(value)]
        for name, value in context.items()
        if name != OBSERVED
    }
    classes, name = shown_classes(model), class_name(model)
    if name is not None:
        place = torch.arange(count) // (columns if columns < count else 1)
        repeated[name] = torch.tensor(classes)[place % len(classes)].to(next(model.parameters()).device)
    return repeated


@torch.no_grad()
def samples_by_class(model: Model, context: Context, columns: int, seed: int) -> Tensor:
    """Return means of p(x|z, y) for every class y, (K, columns, C, H, W), where a column has the same noise.

    Args:
        model: conditioned on a class, in eval mode.
        context: that of B examples; names other than the class are those of the first.
        columns: number of samples of each class.
        seed: seed of the noise.
    """
    name = class_name(model)
    assert name is not None
    rows = []
    for number in shown_classes(model):
        others = {key: value[0] for key, value in context.items() if key not in (name, OBSERVED)}
        with isolated(seed):
            rows.append(model.at(**{**others, name: number}).generate(columns).mean)
    return torch.stack(rows)


@torch.no_grad()
def with_every_class(model: Model, x: Tensor, context: Context) -> Tensor:
    """Return images, and their codes decoded with every class in place of their own, (B, 1 + K, C, H, W).

    What stays the same is what z has of an image beside its class.

    Args:
        model: conditioned on a class, in eval mode.
        x: images, (B, C, H, W), in [0, 1].
        context: that of the images, (B, ...) each.
    """
    name = class_name(model)
    assert name is not None
    zs = modes(given(model, context), x)
    columns = [x]
    for number in shown_classes(model):
        changed = {**context, name: torch.full((len(x),), number, device=x.device)}
        columns.append(model.decode(*zs, context=changed).mean)
    return torch.stack(columns, dim=1)
