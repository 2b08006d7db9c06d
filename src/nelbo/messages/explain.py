"""Errors of ours, of Hydra's and of OmegaConf's as one line that names the key, the value and a hint."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationKeyError, MissingMandatoryValue, OmegaConfBaseException

from nelbo.composing.script import Script, parsed
from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError, NelboError, as_hydra_takes
from nelbo.messages.choices import LISTED, no_option, of_a_slot
from nelbo.messages.keys import no_such_key, takes
from nelbo.messages.shell import TO_TEXT, as_text, for_shell
from nelbo.messages.targets import of_a_target
from nelbo.messages.values import below_a_value
from nelbo.messages.words import not_an_override

NAMED = ("logger", "callbacks")
"""Keys that hold several objects, each under a name."""


def explain(error: Exception, script: Script) -> str:
    """Any such error as one line.

    Args:
        error: it.
        script: whose command line it is of.
    """
    origin: BaseException | None = error
    while origin and not isinstance(origin, NelboError):  # a resolver's is wrapped in OmegaConf's
        origin = origin.__cause__ or origin.__context__
    if origin:
        line = of_a_slot(origin, script) if isinstance(origin, ConfigError) else ""
        return line or " ".join(str(origin).splitlines())  # a value may hold line breaks
    text, cause = str(error), str(error.__cause__ or "")
    if line := of_a_target(f"{text}\n{cause}"):
        return line
    if line := _of_an_option(error, text, script) or _of_a_key(text, cause, script) or _of_a_word(error, text, script):
        return line
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key}: has no default; type {error.full_key}=..."
    if isinstance(error, OmegaConfBaseException) and getattr(error, "full_key", None):
        return _of_a_value(error, text)
    if text.startswith("invalid literal for int()"):  # of OmegaConf, which takes what stands below a list as an index
        for key, word in ((word.lstrip("+~").partition("=")[0], word) for word in sys.argv[1:]):
            if below := below_a_value(key, word.partition("=")[2], script):
                return f"{word}: there is no such key; {below}"
    if match := re.match(r"Cannot find primary config '([^']+)'", text):
        return f"--config-name={match[1]}: there is no such config; --config-dir names the folder that it is in"
    return " ".join(line.strip() for line in f"{text}\n{cause}".splitlines() if line.strip())


def _of_an_option(error: Exception, text: str, script: Script) -> str:
    """An option of a group that there is not, or something else in its place."""
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        # An option that is a path has slashes too.
        whole = [group for group in script.groups if error.missing_cfg_file.startswith(f"{group}/")]
        group = max(whole, key=len, default=error.missing_cfg_file.rpartition("/")[0])
        option = error.missing_cfg_file.removeprefix(f"{group}/")
        return no_option(group, option, option, error.options)
    if match := re.search(r"Could not load '([^']+)/([^']+)'.*path=file://(\S+)", text, re.DOTALL):  # one of a list
        group, option, home = match.groups()
        options = sorted(file.stem for file in Path(home, group).glob("*.yaml"))
        return no_option(group, f"[{option}]", option, options)
    if text.startswith(("Config group override must be", "Config group override deletion value")):
        word, group = _word_of_a_group(script)
        if group in script.own_keys and group not in script.own_groups:
            return f"{word}: is no group here, and its keys are set one by one: {group}.KEY=..."
        options = script.options(group)
        return f"{word}: {group} is a group; choose one of its options: {', '.join(options)}"
    if match := re.match(r"Multiple values for (\S+?)\.? To override", text):
        word = typed(match[1])
        return f"{word}: {match[1]} is chosen already; without the plus: {word.lstrip('+')}"
    if match := re.match(r"Could not delete '([^'=@]+)[^']*'\. No match", text):
        options = script.options(match[1])
        instead = "none leaves it out" if "none" in options else f"choose one of {', '.join(options)}"
        return f"~{match[1]}: cannot be left out in this way; {match[1]} is a group: {instead}"
    return ""


def _word_of_a_group(script: Script) -> tuple[str, str]:
    """The word of the command line that chooses no option by name, though it is of a group, and the group."""
    for word in sys.argv[1:]:
        override = parsed(word)
        group = "" if override is None else override.key_or_group
        if group in script.groups and not _chooses_by_name(override.value()):
            return word, group
    return "a group", "it"


def _chooses_by_name(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _of_a_key(text: str, cause: str, script: Script) -> str:
    """A key that there is not, that is there already, or that holds something else."""
    if match := re.match(r"Could not override '([^']+)'", text):
        key = match[1]
        word = typed(key)
        if missing := re.search(rf"full_key: {re.escape(key)}\.(\S+)", cause):
            return f"{word}: {_merged(key, word, missing[1], script)}"
        return f"{word}: {no_such_key(key, word.partition('=')[2], script)}"
    if match := re.match(r"Override (\S+) looks like a config group override, but config group '([^']+)'", text):
        return f"{match[1]}: {no_such_key(match[2], match[1].partition('=')[2], script)}"
    if match := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        word = typed(match[1])
        return f"{word}: {match[1]} is there already; without the plus: {for_shell(word.lstrip('+'))}"
    if match := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{match[1]}: {no_such_key(match[1], '', script)}"
    if match := re.match(r"Could not delete from config\. The value of '([^']+)' is (.*) and not (.*)\.", text):
        return f"~{match[1]}={match[3]}: its value is {match[2]}; whatever it is, ~{match[1]} leaves it out"
    return ""


def _merged(key: str, word: str, missing: str, script: Script) -> str:
    """Hydra merges a mapping into the one that stands there, which may have other keys."""
    there, value = script.config.get(key), word.partition("=")[2]
    own = there if isinstance(there, dict) else {}
    if key in NAMED and missing == "_target_":
        if "_partial_" not in value and key == "logger":
            value = value.replace("{", "{_partial_:true,", 1)
        return f"its entries have names: {for_shell(f'+{key}.NAME={value}')}"
    override = parsed(word)
    if there == {} and key in script.own_keys and override and isinstance(override.value(), dict):
        keys = [for_shell(f"{key}.{name}={_as_typed(child)}") for name, child in override.value().items()]
        return f"its keys are set one by one: {' '.join(keys)}"
    fact = f"is merged into what stands there, which has no {missing}"
    if "_target_" in own and "_target_" not in value:
        if takes(f"{key}.{missing}", script):
            return f"{fact}; a plus adds it: {for_shell(f'+{key}.{missing}=...')}"
        fact += f" and is {own['_target_']}, which takes none; another class is named by its _target_"
        value = value.replace("{", "{_target_:...,", 1)
    if own.get("_partial_") and "_partial_" not in value:
        value = value.replace("{", "{_partial_:true,", 1)
    return f"{fact}; to replace it: {for_shell(f'~{key}')} {for_shell(f'+{key}={value}')}"


def _of_a_word(error: Exception, text: str, script: Script) -> str:
    """A word that Hydra's grammar does not take, or takes for several."""
    ambiguous = r"Ambiguous value for argument '([^']+)'|Sweep parameters '(.*)' requires --multirun"
    if match := re.match(ambiguous, text):
        word = match[1] or match[2]
        key, _, value = word.partition("=")
        is_group = key in script.groups
        may_be_list = key in LISTED if is_group else not isinstance(script.config.get(key), int | float)
        as_list = f"a list is {for_shell(f'{key}=[{value}]')}" if may_be_list else ""
        text = "" if is_group else f"{TO_TEXT}: {as_text(key, value)}"
        if script.primary != "config":
            message = as_list.replace("a list is", "several values are a list:") or "takes one of them"
        else:
            message = f"several values are a sweep, which needs -m ({script.program} -m ...)"
            message += f"; {as_list}" if as_list and match[1] else ""
        return f"{word}: {message}" + (f"; {text}" if text and (match[1] or script.primary != "config") else "")
    if isinstance(error, OverrideParseException):
        return not_an_override(error.override, sys.argv[1:], script)
    if match := re.match(r"Error when parsing index: \d+, string: (.*) out of \[|Error parsing override '(.*)'", text):
        return not_an_override(match[1] or match[2], sys.argv[1:], script)
    return ""


def _as_typed(value: object) -> str:
    """A value of Hydra's grammar as it is typed again."""
    return quoted(value) if isinstance(value, str) else as_hydra_takes(value)


def _of_a_value(error: OmegaConfBaseException, text: str) -> str:
    """A value that cannot be resolved or is of another type."""
    left_out = [word[1:].partition("=")[0] for word in sys.argv[1:] if word.startswith("~")]
    if isinstance(error, InterpolationKeyError) and (match := re.match(r"Interpolation key '([^']+)'", text)):
        for key in left_out:
            if match[1] == key or match[1].startswith(f"{key}."):
                return f"~{key}: cannot be left out, because {error.full_key} takes its value from {match[1]}"
    return f"{error.full_key}: {text.splitlines()[0]}"


def typed(key: str) -> str:
    """The word of the command line that set `key`, as it was typed; the key alone if none did."""
    return next((word for word in sys.argv[1:] if word.lstrip("+~").startswith(f"{key}=")), key)
