"""Context: what a model is conditioned on, such as labels.

Shapes: S Monte Carlo samples, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Context = Mapping[str, Tensor]
"""Values by name, such as `label`, each with batch shape (B, ...). Empty for a model of x alone."""

NO_CONTEXT: Context = {}


def names_of(part: object) -> tuple[str, ...]:
    """Return the names of the context that a part of a model takes, its attribute `context_names`; most take none."""
    names: Sequence[str] = getattr(part, "context_names", ())
    return tuple(names)


def required_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the context without which a model cannot be used: those of parts that have no default.

    Args:
        model: a `Model`.
    """
    optional = {name for part in model.modules() if getattr(part, "has_default", False) for name in names_of(part)}
    return tuple(name for name in names_of(model) if name not in optional)


def call_with(part: nn.Module, *arguments: object, context: Context) -> Any:
    """Call a part of a model with its arguments and, if it takes any, with the entries of the context that it names.

    Args:
        part: a network, posterior, prior or likelihood.
        arguments: its positional arguments.
        context: all entries that are known; a part that `has_default` may be given fewer than it names.

    Raises:
        ValueError: if the part takes an entry that the context lacks, and has no default.
    """
    names = names_of(part)
    if not names:
        return part(*arguments)
    missing = [name for name in names if name not in context]
    if missing and not getattr(part, "has_default", False):
        raise ValueError(
            f"{type(part).__name__} is conditioned on {', '.join(missing)}, which the context lacks; give "
            f"context={{{missing[0]!r}: a tensor with one value for each example}}"
        )
    return part(*arguments, context={name: context[name] for name in names if name in context})


def initialize_with(part: Any, images: Tensor, context: Context) -> None:
    """Set the starting values of a part of a model, with the entries of the context that it names, if it has a default.

    Args:
        part: a network or likelihood, with a method `initialize`.
        images: training images.
        context: all entries that are known of them.
    """
    names = names_of(part) if getattr(part, "has_default", False) else ()
    if not names:
        part.initialize(images)
        return
    part.initialize(images, {name: context[name] for name in names if name in context})


def over_samples(value: Tensor, leading: Sequence[int]) -> Tensor:
    """Return a context value (B, ...) with the leading shape of z, (S, B, ...) for (S, B).

    Args:
        value: one entry of the context, (B, ...).
        leading: the leading shape of what it is combined with, which ends in B.

    Example:
        >>> import torch
        >>> over_samples(torch.zeros(5, 2), (3, 5)).shape
        torch.Size([3, 5, 2])
    """
    return value.expand(*leading, *value.shape[1:])
