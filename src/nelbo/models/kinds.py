"""Checks of the names of a condition, of what they stand for, and of values that are bound."""

from __future__ import annotations

import math

import torch

from nelbo.errors import ConfigError, positive_integer


def checked_names(key: str, names: object) -> tuple[str, ...]:
    """Return names of a context.

    Raises:
        ConfigError: if they are not a list of different texts.
    """
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(key, names, "must be a list of different names, such as [label]")
    if len(set(names)) < len(names):
        raise ConfigError(key, list(names), "must be a list of different names, such as [label]")
    return tuple(names)


def size_of(name: str, shape: object) -> int:
    """Return how many numbers a shape has.

    Raises:
        ConfigError: if it is no list of positive whole numbers.
    """
    if not isinstance(shape, list | tuple):
        raise ConfigError(f"kinds.{name}", shape, "must be a number of classes, or a shape such as [2]")
    return math.prod(positive_integer(f"kinds.{name}", size) for size in shape)


def check_numbers(name: str, value: object, size: int) -> None:
    """Check numbers that are bound for all examples.

    Raises:
        ConfigError: if they are no numbers, not finite, or not as many as one example has.
    """
    try:
        numbers = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(name, value, f"must be {size} numbers") from error
    if numbers.numel() != size or not numbers.isfinite().all():
        raise ConfigError(name, value, f"must have {size} numbers, all of them finite")


def is_count(kind: object) -> bool:
    """Return whether a kind is a number of classes, not a shape."""
    return isinstance(kind, int) and not isinstance(kind, bool)
