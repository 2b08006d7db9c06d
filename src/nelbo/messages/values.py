"""Hints for keys below a key whose value is not a mapping, such as `objective.beta.linear.steps`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nelbo.composing.command import Command
from nelbo.composing.compat import parse_override
from nelbo.config.build import RUN_PREFIXES, build
from nelbo.config.checks import CHECKS
from nelbo.errors import ConfigError, as_hydra_takes
from nelbo.messages.shell import for_shell
from nelbo.schedules import EXAMPLE, SCHEDULES


def hint_below_value(key: str, value: str, command: Command) -> str:
    """Return the hint for a key below one that holds a number, a text, a list or null; empty for any other key.

    Args:
        key: the whole dotted key, as it was typed.
        value: the value, as it was typed.
        command: the command.
    """
    parent = next((parent for parent in _parents(key) if parent in command.config), "")
    if not parent or isinstance(command.config[parent], Mapping):
        return ""
    rest = key.removeprefix(f"{parent}.").split(".")
    mapping = "".join(f"{{{part}:" for part in rest) + value + "}" * len(rest)
    instead = f"its value may be a mapping: {for_shell(f'{parent}={mapping}')}"
    if parent in CHECKS and (override := parse_override(f"{parent}={mapping}")):
        try:
            CHECKS[parent](parent, override.value())
        except ConfigError as error:
            return f"{parent} {error.hint}"
        return instead
    if "Schedule" in _annotation(parent, command):
        names = ", ".join(SCHEDULES)
        return instead if rest[0] in SCHEDULES else f"{parent} is a number or a schedule ({names}), such as {EXAMPLE}"
    value = command.config[parent]
    if isinstance(value, str) and value.startswith("${"):
        return f"{parent} is a value, which has no keys"
    return f"{parent} is {as_hydra_takes(value)}, which has no keys"


def _parents(key: str) -> list[str]:
    """Return the keys above a dotted key, the nearest first."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _annotation(key: str, command: Command) -> str:
    """Return the annotation of a key in the class that is built from its parent; empty if that is unknown."""
    parent, _, last = key.rpartition(".")
    try:
        factory: Any = build(
            {"_target_": command.config.get(f"{parent}._target_"), "_partial_": True}, parent, RUN_PREFIXES
        )
    except ConfigError:
        return ""
    parameter = inspect.signature(factory.target).parameters.get(last)
    return "" if parameter is None else str(parameter.annotation)
