"""What a user's own data may be, and one line for data that were given to the wrong option."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset, IterableDataset

from nelbo.data.arrays import Arrays
from nelbo.errors import ConfigError

FUNCTION = "data=function data.source._target_="
DATASET = "data=dataset data.source._target_="
MODULE = "data=datamodule data.module._target_="

LIGHTNING = ("pytorch_lightning.", "lightning.")


def name_of(value: object) -> str:
    """Return the dotted name of an object's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def is_module_class(kind: type) -> bool:
    """Return whether a class is a LightningDataModule, of either package that Lightning is installed as."""
    return any(
        base.__name__ == "LightningDataModule" and f"{base.__module__}.".startswith(LIGHTNING) for base in kind.__mro__
    )


def is_module(value: object) -> bool:
    """Return whether an object is a LightningDataModule."""
    return is_module_class(type(value))


def is_own(module: object, method: str) -> bool:
    """Return whether a LightningDataModule has a method of its own, and not Lightning's."""
    found = getattr(type(module), method, None)
    return callable(found) and not f"{found.__module__}.".startswith(LIGHTNING)


def other_option(value: object) -> str:
    """Return the option that takes an object as data, for a hint; empty if there is none."""
    if is_module(value):
        return f"{MODULE}{name_of(value)}"
    if isinstance(value, Arrays):
        return f"{FUNCTION}... for a function that returns Arrays"
    if isinstance(value, IterableDataset):
        return ""
    return f"{DATASET}{name_of(value)}" if isinstance(value, Dataset) else ""


def not_arrays(value: object) -> ConfigError:
    """Return the error for a source that is not a function that returns `Arrays`."""
    option = other_option(value)
    hint = f"made a {type(value).__name__}, and not nelbo.data.Arrays"
    return ConfigError("source", name_of(value), f"{hint}; use {option}" if option else hint)


def check_map_style(key: str, value: Any) -> None:
    """Check that an object is a map-style Dataset.

    Args:
        key: the option that it is the value of.
        value: the object.

    Raises:
        ConfigError: if it is anything else.
    """
    if isinstance(value, IterableDataset):
        hint = "is an IterableDataset, which has no positions to shuffle, split and resume by: give a map-style Dataset"
        raise ConfigError(key, name_of(value), hint)
    if is_module(value) or isinstance(value, Arrays):
        raise ConfigError(key, name_of(value), f"is no Dataset; use {other_option(value)}")
    if not (hasattr(value, "__getitem__") and hasattr(value, "__len__")):
        hint = "is no map-style Dataset: it needs __getitem__(index) and __len__()"
        raise ConfigError(key, name_of(value), hint)
    if not len(value):
        raise ConfigError(key, name_of(value), "is empty")
