"""Errors of nelbo, Hydra and OmegaConf as one line each, with the key, the value and a hint."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from nelbo.composing.command import Command
from nelbo.composing.compat import parse_override
from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError, NelboError, as_hydra_takes
from nelbo.messages.arguments import explain_invalid
from nelbo.messages.choices import LIST_GROUPS, explain_slot, unknown_option
from nelbo.messages.keys import class_with_option, explain_unknown_key
from nelbo.messages.shell import TO_TEXT, as_text, for_shell
from nelbo.messages.targets import explain_target
from nelbo.messages.values import hint_below_value

NAMED_OBJECTS = ("logger", "callbacks")
"""Keys that hold several objects, each below a name."""


def explain(error: Exception, command: Command) -> str:
    """Return an error as one line.

    Args:
        error: the error.
        command: the command whose command line or config it is about.
    """
    origin: BaseException | None = error
    while origin and not isinstance(origin, NelboError):  # OmegaConf wraps the error of a resolver
        origin = origin.__cause__ or origin.__context__
    if origin:
        line = explain_slot(origin, command) if isinstance(origin, ConfigError) else ""
        return line or " ".join(str(origin).splitlines())  # a value may contain line breaks
    text, cause = str(error), str(error.__cause__ or "")
    if line := explain_target(f"{text}\n{cause}"):
        return line
    if line := (
        _explain_option(error, text, command)
        or _explain_key(text, cause, command)
        or _explain_argument(error, text, command)
    ):
        return line
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no default; type {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException) and getattr(error, "full_key", None):
        return _explain_value(error, text)
    if text.startswith("invalid literal for int()"):  # OmegaConf takes a key below a list for an index
        for argument in sys.argv[1:]:
            key, _, value = argument.partition("=")
            if hint := hint_below_value(key.lstrip("+~"), value, command):
                return f"{argument}: there is no such key; {hint}"
    if match := re.match(r"Cannot find primary config '([^']+)'", text):
        return f"--config-name={match[1]}: there is no such config; --config-dir names the folder that contains it"
    return " ".join(line.strip() for line in f"{text}\n{cause}".splitlines() if line.strip())


def override_of(key: str) -> str:
    """Return the override on the command line that sets a key, as it was typed; the key alone if there is none."""
    return next((argument for argument in sys.argv[1:] if argument.lstrip("+~").startswith(f"{key}=")), key)


def _explain_option(error: Exception, text: str, command: Command) -> str:
    """Return the line for an unknown option of a group, or another value in its place; empty for other errors."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        # An option that is a path contains slashes too.
        groups = [group for group in command.groups if error.missing_cfg_file.startswith(f"{group}/")]
        group = max(groups, key=len, default=error.missing_cfg_file.rpartition("/")[0])
        option = error.missing_cfg_file.removeprefix(f"{group}/")
        return unknown_option(group, option, option, error.options)
    if match := re.search(r"Could not load '([^']+)/([^']+)'.*path=file://(\S+)", text, re.DOTALL):  # one of a list
        group, option, folder = match.groups()
        options = sorted(file.stem for file in Path(folder, group).glob("*.yaml"))
        return unknown_option(group, f"[{option}]", option, options)
    if text.startswith(("Config group override must be", "Config group override deletion value")):
        argument, group = _override_of_group(command)
        if group in command.own_keys and group not in command.own_groups:
            return f"{argument}: is not a group here; its keys are set one by one: {group}.KEY=..."
        options = command.options(group)
        return f"{argument}: {group} is a group; choose one of its options: {', '.join(options)}"
    if match := re.match(r"Multiple values for (\S+?)\.? To override", text):
        argument = override_of(match[1])
        return f"{argument}: {match[1]} is chosen already; without the plus: {argument.lstrip('+')}"
    if match := re.match(r"Could not delete '([^'=@]+)[^']*'\. No match", text):
        options = command.options(match[1])
        instead = "none leaves it out" if "none" in options else f"choose one of {', '.join(options)}"
        return f"~{match[1]}: cannot be left out in this way; {match[1]} is a group: {instead}"
    return ""


def _override_of_group(command: Command) -> tuple[str, str]:
    """Return the first override of a group that does not choose options by name, and the group."""
    for argument in sys.argv[1:]:
        override = parse_override(argument)
        group = "" if override is None else override.key_or_group
        if group in command.groups and not _is_name_or_names(override.value()):
            return argument, group
    return "a group", "it"


def _is_name_or_names(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _explain_key(text: str, cause: str, command: Command) -> str:
    """Return the line for a key that is unknown, exists already or has another value; empty for other errors."""
    if match := re.match(r"Could not override '([^']+)'", text):
        key = match[1]
        argument = override_of(key)
        if missing := re.search(rf"full_key: {re.escape(key)}\.(\S+)", cause):
            return f"{argument}: {_explain_merge(key, argument, missing[1], command)}"
        return f"{argument}: {explain_unknown_key(key, argument.partition('=')[2], command)}"
    if match := re.match(r"Override (\S+) looks like a config group override, but config group '([^']+)'", text):
        return f"{match[1]}: {explain_unknown_key(match[2], match[1].partition('=')[2], command)}"
    if match := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        argument = override_of(match[1])
        return f"{argument}: {match[1]} exists already; without the plus: {for_shell(argument.lstrip('+'))}"
    if match := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{match[1]}: {explain_unknown_key(match[1], '', command)}"
    if match := re.match(r"Could not delete from config\. The value of '([^']+)' is (.*) and not (.*)\.", text):
        return f"~{match[1]}={match[3]}: its value is {match[2]}; ~{match[1]} leaves it out, whatever its value"
    return ""


def _explain_merge(key: str, argument: str, missing: str, command: Command) -> str:
    """Return why a mapping is refused: Hydra merges it into the current mapping, which lacks one of its keys.

    Args:
        key: the key that was set to a mapping.
        argument: the override.
        missing: the key that the current mapping lacks.
        command: the command.
    """
    current, value = command.config.get(key), argument.partition("=")[2]
    own = current if isinstance(current, dict) else {}
    if key in NAMED_OBJECTS and missing == "_target_":
        if "_partial_" not in value and key == "logger":
            value = value.replace("{", "{_partial_:true,", 1)
        return f"its entries have names: {for_shell(f'+{key}.NAME={value}')}"
    override = parse_override(argument)
    if current == {} and key in command.own_keys and override and isinstance(override.value(), dict):
        keys = [for_shell(f"{key}.{name}={_as_typed(child)}") for name, child in override.value().items()]
        return f"its keys are set one by one: {' '.join(keys)}"
    fact = f"is merged into the current mapping, which has no {missing}"
    if "_target_" in own and "_target_" not in value:
        if class_with_option(f"{key}.{missing}", command):
            return f"{fact}; a plus adds it: {for_shell(f'+{key}.{missing}=...')}"
        fact += f", and {own['_target_']} does not take it; _target_ chooses another class"
        value = value.replace("{", "{_target_:...,", 1)
    if own.get("_partial_") and "_partial_" not in value:
        value = value.replace("{", "{_partial_:true,", 1)
    return f"{fact}; to replace it: {for_shell(f'~{key}')} {for_shell(f'+{key}={value}')}"


def _explain_argument(error: Exception, text: str, command: Command) -> str:
    """Return the line for an argument that Hydra's grammar rejects or reads as several values; empty for others."""
    ambiguous = r"Ambiguous value for argument '([^']+)'|Sweep parameters '(.*)' requires --multirun"
    if match := re.match(ambiguous, text):
        return _explain_several(match[1] or match[2], bool(match[1]), command)
    if isinstance(error, OverrideParseException):
        return explain_invalid(error.override, sys.argv[1:], command)
    if match := re.match(r"Error when parsing index: \d+, string: (.*) out of \[|Error parsing override '(.*)'", text):
        return explain_invalid(match[1] or match[2], sys.argv[1:], command)
    return ""


def _explain_several(argument: str, is_ambiguous: bool, command: Command) -> str:
    """Return the line for an override with several values, such as `logger=csv,tensorboard`, without `-m`.

    Args:
        argument: the override.
        is_ambiguous: whether Hydra says that the value may be a sweep, a list or a text, and not that it is a sweep.
        command: the command.
    """
    key, _, value = argument.partition("=")
    is_group = key in command.groups
    may_be_list = key in LIST_GROUPS if is_group else not isinstance(command.config.get(key), int | float)
    as_list = f"a list is {for_shell(f'{key}=[{value}]')}" if may_be_list else ""
    text = "" if is_group else f"{TO_TEXT}: {as_text(key, value)}"
    if command.primary != "config":
        message = as_list.replace("a list is", "several values are a list:") or "takes one of them"
    else:
        message = f"several values are a sweep, which needs -m ({command.program} -m ...)"
        message += f"; {as_list}" if as_list and is_ambiguous else ""
    return f"{argument}: {message}" + (f"; {text}" if text and (is_ambiguous or command.primary != "config") else "")


def _as_typed(value: object) -> str:
    """Return a value that Hydra's grammar has read as it is typed."""
    return quoted(value) if isinstance(value, str) else as_hydra_takes(value)


def _explain_value(error: OmegaConfBaseException, text: str) -> str:
    """Return the line for a value that cannot be resolved or has another type."""
    left_out = [argument[1:].partition("=")[0] for argument in sys.argv[1:] if argument.startswith("~")]
    if isinstance(error, InterpolationKeyError) and (match := re.match(r"Interpolation key '([^']+)'", text)):
        for key in left_out:
            if match[1] == key or match[1].startswith(f"{key}."):
                return f"~{key}: cannot be left out, because {error.full_key} takes its value from {match[1]}"
    return f"{error.full_key}: {text.splitlines()[0]}"
