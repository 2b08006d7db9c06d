"""Comparison of the stored config of a run with another config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nelbo.config.identity import with_loggers_as_before
from nelbo.directories.names import CONFIG
from nelbo.errors import CheckpointError, first_line

Changes = dict[str, tuple[Any, Any]]
"""Previous and current value, by dotted key."""

ABSENT = object()
"""Value of a key that a config does not have."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config that is stored in a run's directory.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        config = yaml.safe_load((folder / CONFIG).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict):
        raise CheckpointError(f"{folder / CONFIG}: is not a run's config")
    return config


def in_the_shape_of(before: Mapping[str, Any], plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a config with its logger unnamed if that of the config `before`, of an earlier version, is unnamed too."""
    return with_loggers_as_before(plain) if "_target_" in (before.get("logger") or {}) else plain


def value_at(plain: Any, key: str) -> Any:
    """Return the value at a dotted key; `ABSENT` if there is none."""
    for part in key.split("."):
        plain = plain.get(part, ABSENT) if isinstance(plain, Mapping) else ABSENT
    return plain


OF_DATA = ("model.conditioning.kinds", "model.likelihood.columns", "model.inputs.columns")
"""Keys that a run fills in from its data, whose provenance is compared itself."""


def was_filled_in(before: Mapping[str, Any], plain: Mapping[str, Any], key: str, pair: tuple[Any, Any]) -> bool:
    """Return whether the values of a key differ only because the run has replaced null.

    A run replaces null in `data.shape` and `data.levels`, and in keys that interpolate them, by the values of its
    images, in keys of `OF_DATA` by what describes its data, and in `trainer.max_epochs` by the number of epochs of its
    budget (see `resume.longer`).

    Args:
        before: config that the run has stored.
        plain: current config, before null is replaced.
        key: dotted key.
        pair: its previous and current value.
    """
    if key == "trainer.max_epochs" or key in OF_DATA:
        return pair[1] is None
    null_keys = [part for part in ("shape", "levels") if plain["data"].get(part, "") is None]
    return any(pair == (before["data"].get(part), None) for part in null_keys)


def is_one_of(key: str, names: Sequence[str]) -> bool:
    """Return whether a dotted key is one of `names`, or below one of them."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def differences(before: Any, after: Any, path: str = "") -> Changes:
    """Return the values that differ between two plain configs, by dotted key; None for a missing value.

    Example:
        >>> differences({"seed": 1, "data": {"name": "mnist"}}, {"seed": 2, "data": {"name": "mnist"}})
        {'seed': (1, 2)}
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changes: Changes = {}
        for key in dict.fromkeys([*before, *after]):
            changes |= differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return changes
    return {} if before == after else {path: (before, after)}
