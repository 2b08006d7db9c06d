"""The data of a config, which may be a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from nelbo.config.build import Factory, build
from nelbo.data.own_sources import DATASET, FUNCTION, MODULE, is_module_class
from nelbo.data.run_data import RunData
from nelbo.errors import ConfigError


def build_data(plain: Mapping[str, Any], allowed: Sequence[str]) -> RunData:
    """Return the data of a config, before their `setup`.

    Args:
        plain: the part `data` of a config, as plain containers.
        allowed: what the names of targets may begin with.

    Raises:
        ConfigError: if they cannot be built; if their class is of other data, with the option that takes it.
    """
    name = plain.get("_target_")
    factory: Factory = build({"_target_": name, "_partial_": True}, "data", allowed)
    if not (inspect.isclass(factory.target) and issubclass(factory.target, RunData)):
        hint = f"does not serve the data of a run itself; use {option_for(factory.target)}{name}"
        raise ConfigError("data._target_", name, hint, located=True)
    data: RunData = build(dict(plain), "data", allowed)
    return data


def option_for(target: Any) -> str:
    """Return the option that takes a class or a function as data."""
    if not inspect.isclass(target):
        return FUNCTION
    return MODULE if is_module_class(target) else DATASET if issubclass(target, Dataset) else FUNCTION
