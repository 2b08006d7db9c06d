"""Hints for unknown keys of a config: the key that was meant, the option that has it, or the keys that exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nelbo.composing.command import COMMANDS, SPECIAL_KEYS, Command, primary_keys
from nelbo.composing.compat import parse_override
from nelbo.config.build import RUN_PREFIXES, build
from nelbo.config.checks import CHECKS
from nelbo.config.keys import TYPED_KEYS
from nelbo.config.trainer_checks import LAST_EPOCH, LOGGER_OPTIONS
from nelbo.errors import ConfigError
from nelbo.messages.aliases import KEY_ALIASES
from nelbo.messages.shell import for_shell
from nelbo.messages.suggestions import MAX_SUGGESTIONS, did_you_mean, normalised, similar, suggestions
from nelbo.messages.values import hint_below_value
from nelbo.terminal.programs import program

ALLOWED = (*RUN_PREFIXES, "nelbo.evaluation.", "nelbo.pictures.")
MIN_SIMILARITY_OF_LAST = 0.6
"""The least similarity of the last parts of two keys that are similar as a whole."""

MAX_OPTIONS = 3
"""The largest number of keys of other options in a message."""

MAX_LISTED = 16
"""The largest number of keys of a mapping that a message lists; for more it says how to print them."""


def explain_unknown_key(key: str, value: str, command: Command) -> str:
    """Return the reason why an override of an unknown key is refused, with a hint.

    Args:
        key: the key as it was typed, without `+`.
        value: the value as it was typed.
        command: the command.
    """
    key = _complete(key.replace("/", "."), command)
    return _explain_default(key, value, command) or (
        f"there is no such key; {hint_for_key(key, value, command) or _list_keys(key, command)}"
    )


def hint_for_key(key: str, value: str, command: Command) -> str:
    """Return the hint for an unknown key: what was meant, or where it belongs; empty if there is no guess.

    Args:
        key: the key as it was typed, without `+`.
        value: the value as it was typed.
        command: the command.
    """
    key = _complete(key.replace("/", "."), command)
    if sibling := _alias_of_sibling(key, command):
        return did_you_mean([_with_value(sibling, value)]) + _list_keys("", command)
    if key not in command.config and key in (options := command.options_with(key)):
        return _describe_options({key: options[key]})
    if key.startswith("hydra."):
        question = did_you_mean(_similar_keys(key, command.hydra_keys)[:1])
        return f"{question}{command.invocation} --cfg hydra lists them"
    if hint := hint_below_value(key, value, command):
        return hint
    exact = _exact_matches(key, command)
    other_option = "" if exact else _hint_other_option(key, command)
    other_command = _hint_other_command(key, value, command) if exact in ([], [key]) else ""
    if other_option or other_command:
        return other_option or other_command
    question = did_you_mean([_with_value(name, value) for name in exact or _close_matches(key, command)])
    return question and f"{question}{_list_keys('', command)}"


def key_suggestions(key: str, command: Command) -> list[str]:
    """Return the keys, or whole overrides, that an unknown key may stand for."""
    return _exact_matches(key, command) or _close_matches(key, command)


def class_with_option(key: str, command: Command) -> str:
    """Return the name of the class that is built from a key's parent, if it has an option of that name; else empty.

    Arguments that the run itself passes are not options: of a class of nelbo those that may be positional, of other
    classes the first.
    """
    parent, _, last = key.rpartition(".")
    target = command.config.get(f"{parent}._target_")
    if not isinstance(target, str):
        return ""
    try:
        factory: Any = build({"_target_": target, "_partial_": True}, parent, ALLOWED)
    except ConfigError:
        return ""
    parameters = inspect.signature(factory.target).parameters
    passed: list[str] = []
    if command.config.get(f"{parent}._partial_"):
        positional = [name for name, one in parameters.items() if one.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
        passed = positional if target.startswith("nelbo.") else positional[:1]
    return factory.target.__name__ if last in parameters and last not in passed else ""


def _complete(key: str, command: Command) -> str:
    """Return a key with its parents: `model.likelihood.sigma` for `likelihood.sigma`, which begins with a group."""
    first, dot, rest = key.partition(".")
    parents = [
        known for known, value in command.config.items() if known.endswith(f".{first}") and isinstance(value, dict)
    ]
    return f"{parents[0]}.{rest}" if dot and first not in command.config and len(parents) == 1 else key


def _with_value(name: str, value: str) -> str:
    """Return a key that needs a plus as an override that can be pasted; any other key unchanged."""
    return for_shell(f"{name}={value}") if name.startswith("+") and "=" not in name and value else name


def _alias_of_sibling(key: str, command: Command) -> str:
    """Return the key with the same parent for which an unknown key is an alias; empty if there is none."""
    parent, _, last = key.rpartition(".")
    names = " or ".join(KEY_ALIASES.get(normalised(last), ())).split(" or ")
    siblings = [name for name in names if parent and name.rpartition(".")[0] == parent]
    return next(filter(None, (_available(sibling, command) for sibling in siblings)), "")


def _available(name: str, command: Command) -> str:
    """Return a key or override if the command has it, with a plus where only its class does; else empty."""
    key, _, _ = name.partition("=")
    if key in command.config or key in command.own_keys:
        return name
    if key == "hydra.run.dir":
        return key if command.primary == "config" else ""
    return f"+{name}" if class_with_option(key, command) else ""


def _exact_matches(key: str, command: Command) -> list[str]:
    """Return the keys of the same name elsewhere or in another spelling, and those for which it is an alias."""
    config, last = command.config, normalised(key.split(".")[-1])
    if key in config:
        return [key]
    if same := [known for known in config if normalised(known) == normalised(key)]:
        return same[:1]
    if typed := [known for known in TYPED_KEYS if known in config and normalised(known.split(".")[-1]) == last]:
        return typed
    same = [known for known in config if normalised(known.split(".")[-1]) == last and "." in known]
    if siblings := [known for known in same if "." in key and known.startswith(f"{key.rpartition('.')[0]}.")]:
        return siblings[:MAX_SUGGESTIONS]
    for names in KEY_ALIASES.get(last, ()):
        if available := [name for alias in names.split(" or ") if (name := _available(alias, command))]:
            return available
    elsewhere = [known for known in same if not known.startswith("budget.") and not _of_other_part(known, key, command)]
    return elsewhere[:MAX_SUGGESTIONS]


def _of_other_part(known: str, key: str, command: Command) -> bool:
    """Return whether a key is that of another part of the model than the one in which a key was typed."""
    parts = [name.rpartition(".")[0] for name in (known, key)]
    return all(part.startswith("model.") and f"{part}._target_" in command.config for part in parts)


def _close_matches(key: str, command: Command) -> list[str]:
    """Return keys of a similar name: with the same parent, else among the common ones, else anywhere."""
    parent, _, last = key.rpartition(".")
    if names := suggestions(last, _children(parent, command)):
        return [f"{parent}.{name}" if parent else name for name in names]
    common = {known: known.split(".")[-1] for known in TYPED_KEYS if known in command.config}
    if names := suggestions(last, common.values(), 1):
        return [known for known, name in common.items() if name in names]
    return [known for known in _similar_keys(key, command.config) if not key.startswith(known)][:1] if parent else []


def _similar_keys(key: str, known: Iterable[str]) -> list[str]:
    """Return keys that are similar as a whole and in their last part, for a long parent alone makes keys similar."""
    last = key.rpartition(".")[2]
    names = {other: other.rpartition(".")[2] for other in similar(key, known)}
    return [
        other
        for other, name in names.items()
        if name not in SPECIAL_KEYS and similar(last, [name], MIN_SIMILARITY_OF_LAST)
    ]


def _children(parent: str, command: Command) -> list[str]:
    """Return the names of the keys in a mapping of the config; the top-level keys for an empty parent."""
    prefix = f"{parent}." if parent else ""
    names = (known.removeprefix(prefix) for known in command.config if known.startswith(prefix))
    return [name for name in names if "." not in name and name not in SPECIAL_KEYS]


def _explain_default(key: str, value: str, command: Command) -> str:
    """Return the message for an option that the config leaves to the default of its class, or that is set elsewhere."""
    if key in command.config:
        return ""
    first, _, last = key.rpartition(".")
    if check := CHECKS.get(key) or (
        LOGGER_OPTIONS.get(last) if first in command.config and re.fullmatch(r"logger\.\w+", first) else None
    ):
        override = parse_override(f"{key}={value}")
        try:
            check(key, None if override is None else override.value())
        except ConfigError as error:
            return error.hint
    if key == "scheduler.last_epoch":
        return LAST_EPOCH
    if name := class_with_option(key, command):
        return f"the config leaves this to the default of {name}; a plus sets it: {for_shell(f'+{key}={value}')}"
    return ""


def _hint_other_option(key: str, command: Command) -> str:
    """Return the hint for a key that other options of a group have; empty if there is none.

    That is the same key, or one of its name in the same part of the config.
    """
    first, _, last = key.rpartition(".")
    options = command.options_with(key) or command.options_with(last)
    return _describe_options(
        {
            whole: names
            for whole, names in options.items()
            if not first or whole.startswith(f"{key.split('.')[0]}.") or whole.endswith(f".{key}")
            if not _of_other_part(whole, key, command)
        }
    )


def _describe_options(options: Mapping[str, Sequence[str]]) -> str:
    """Return which options have which keys, as text.

    Args:
        options: lists of `GROUP=OPTION` by dotted key.
    """
    parts = [
        f"{key} is a key of {_joined([name.removeprefix('picture=') for name in names])}"
        for key, names in options.items()
    ]
    return "; ".join(parts[:MAX_OPTIONS])


def _hint_other_command(key: str, value: str, command: Command) -> str:
    """Return the hint for a key in the config of another command; empty if there is none."""
    first = key.split(".")[0]
    if first in command.own_keys and (key != first or first in command.own_groups):
        return ""  # a mistake below a key that this command has too
    for primary, name in COMMANDS.items():
        other = program(name)
        if primary != command.primary and first in primary_keys(command.folder / f"{primary}.yaml"):
            if primary == "config":
                moved = f"; if they were moved: {key}.KEY=..." if key in command.config else ""
                return f"it belongs to training ({other}); a finished run has its own {first}{moved}"
            run = "" if first == "run" else "run=outputs/... "
            kind = "KIND " if primary == "draw" else ""
            typed = f"{other} {kind}{run}{for_shell(f'{key}={value}')}"
            return f"it belongs to {name}, which takes a finished run: {typed}"
    return ""


def _list_keys(key: str, command: Command) -> str:
    """Return the keys in the mapping in which an unknown key would be, or how to list all keys."""
    parent = key.rpartition(".")[0]
    while parent and parent not in command.config:
        parent = parent.rpartition(".")[0]
    names, target = _children(parent, command), command.config.get(f"{parent}._target_")
    if not parent or len(names) > MAX_LISTED:
        return f"{command.invocation} --cfg job lists them"
    subject = f"{parent} is {target} and" if target else parent
    if not names:
        return f"{subject} has no keys here; {parent}._target_=... chooses another class"
    more = f"; to add one: {for_shell('+callbacks.NAME={_target_:...}')}" if parent == "callbacks" else ""
    return f"{subject} has: {', '.join(names)}{more}"


def _joined(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
