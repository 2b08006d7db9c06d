"""What differs between the config that a run began with and another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nelbo.config.identity import with_loggers_as_before
from nelbo.directories.names import CONFIG
from nelbo.errors import CheckpointError, first_line

Changes = dict[str, tuple[Any, Any]]
"""By dotted key, the value of then and that of now."""

ABSENT = object()
"""What stands at a key that a config does not have."""


def read_config(folder: Path) -> dict[str, Any]:
    """The config that a run began with.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        found = yaml.safe_load((folder / CONFIG).read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
        raise CheckpointError(f"{folder / CONFIG}: is not a run's config")
    return found


def in_the_shape_of(before: Mapping[str, Any], plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config as a run that began with `before` would have written it: one logger may have stood there unnamed."""
    return with_loggers_as_before(plain) if "_target_" in (before.get("logger") or {}) else plain


def value_at(plain: Any, key: str) -> Any:
    """The value at a dotted key; `ABSENT` where there is none."""
    for part in key.split("."):
        plain = plain.get(part, ABSENT) if isinstance(plain, Mapping) else ABSENT
    return plain


def was_filled_in(before: Mapping[str, Any], plain: Mapping[str, Any], key: str, pair: tuple[Any, Any]) -> bool:
    """Whether the values (then, now) of a key differ only because the run wrote what null came to.

    That is what the images say themselves, also where it is interpolated, and the epochs of the budget, which show with
    the data (see `resume.longer`).
    """
    if key == "trainer.max_epochs":
        return pair[1] is None
    unsaid = [part for part in ("shape", "levels") if plain["data"].get(part, "") is None]
    return any(pair == (before["data"].get(part), None) for part in unsaid)


def is_one_of(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of `names`, or below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def differences(before: Any, after: Any, path: str = "") -> Changes:
    """What two plain configs say differently, by dotted key; None where one of them says nothing."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: Changes = {}
        for key in dict.fromkeys([*before, *after]):
            found |= differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if before == after else {path: (before, after)}
