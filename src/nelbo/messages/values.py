"""Keys below a key whose value is no mapping, or may be another than the one that stands there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nelbo.composing.script import Script, parsed
from nelbo.config.build import RUN_PREFIXES, build
from nelbo.config.checks import CHECKS
from nelbo.errors import ConfigError, as_hydra_takes
from nelbo.messages.shell import for_shell
from nelbo.schedules import EXAMPLE, SCHEDULES


def below_a_value(key: str, value: str, script: Script) -> str:
    """What to say of a key below one that holds a number, a text, a list or null; empty for any other key.

    Args:
        key: as it was typed, with its parents.
        value: as it was typed.
        script: whose command line it is of.
    """
    parents = list(_parents(key))
    place = next((parent for parent in parents if parent in script.config), "")
    if not place or isinstance(script.config[place], Mapping):
        return ""
    rest = key.removeprefix(f"{place}.").split(".")
    mapping = "".join(f"{{{part}:" for part in rest) + value + "}" * len(rest)
    instead = f"its value may be a mapping: {for_shell(f'{place}={mapping}')}"
    if place in CHECKS and (override := parsed(f"{place}={mapping}")):
        try:
            CHECKS[place](place, override.value())
        except ConfigError as error:
            return f"{place} {error.hint}"
        return instead
    if "Schedule" in _annotation(place, script):
        names = ", ".join(SCHEDULES)
        return instead if rest[0] in SCHEDULES else f"{place} is a number, or a schedule such as {EXAMPLE}, of {names}"
    return f"{place} is {as_hydra_takes(script.config[place])}, and nothing stands below it"


def _parents(key: str) -> list[str]:
    """The keys that a key stands below, the nearest first."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _annotation(key: str, script: Script) -> str:
    """How the class that is built from a key's parent declares it; empty if it cannot be asked."""
    parent, _, last = key.rpartition(".")
    try:
        factory: Any = build(
            {"_target_": script.config.get(f"{parent}._target_"), "_partial_": True}, parent, RUN_PREFIXES
        )
    except ConfigError:
        return ""
    declared = inspect.signature(factory.target).parameters.get(last)
    return "" if declared is None else str(declared.annotation)
