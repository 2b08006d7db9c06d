"""Errors of command-line arguments: those that are not `key=value`, and those that Hydra would silently misuse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from nelbo.composing.command import Command
from nelbo.composing.compat import check_options, parse_override
from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.choices import check_choice
from nelbo.messages.keys import key_suggestions
from nelbo.messages.shell import TO_TEXT, as_text, for_shell
from nelbo.messages.suggestions import did_you_mean, normalised, suggestions

SPLIT_BRACES = re.compile(r"[^=]+=(\{\w+:)?\w+:[^{}]*\}?")
"""One of the arguments that a shell makes of `key={a:1,b:2}` or `key={name:{a:1,b:2}}` without quotes."""

CLOSING = {"[": "]", "{": "}", "(": ")"}


def usage_error(argument: str, known: Sequence[str], usage: str, aliases: Mapping[str, str]) -> NelboError:
    """Return the error for an unknown first argument.

    Args:
        argument: the first argument; empty if there is none.
        known: the arguments that the command knows.
        usage: the usage of the command, which lists them.
        aliases: known arguments by their other, normalised names.
    """
    spelling = normalised(argument)
    names = [aliases[spelling]] if spelling in aliases else suggestions(argument, known)
    fact = f"{argument}: unknown argument; {did_you_mean(names)}" if argument else ""
    return NelboError(f"{fact}usage: {usage}")


def check_arguments(arguments: Sequence[str], command: Command) -> None:
    """Refuse arguments that Hydra would ignore without a message, or explain at length.

    Raises:
        NelboError: with the first such argument and what to type instead.
    """
    refuse_unknown_options(arguments, command)
    for argument, following in pairwise([*arguments, ""]):
        key = argument.removeprefix("+").partition("=")[0]
        if (
            SPLIT_BRACES.fullmatch(argument)
            and SPLIT_BRACES.fullmatch(following)
            and following.removeprefix("+").startswith(f"{key}=")
        ):
            raise NelboError(f"{argument}: the shell splits braces at commas; quote the whole: '{key}={{...}}'")
        if not argument.startswith("-"):
            check_choice(argument, command)
    if command.primary == "config":
        _check_directories(arguments)


def _check_directories(arguments: Sequence[str]) -> None:
    """Refuse the directory of a sweep for a single run, that of a run for a sweep, and an empty one.

    Raises:
        NelboError: with the argument.
    """
    many = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))
    other, used = ("run", "sweep") if many else ("sweep", "run")
    # Both may be given: a cell of several processes is started as a run that names its sweep's directory too.
    both = any(argument.startswith(f"hydra.{used}.dir=") for argument in arguments)
    for argument in arguments:
        if argument.startswith(f"hydra.{other}.dir=") and not both:
            fact = (
                f"the directory of a sweep is hydra.{used}.dir=..."
                if many
                else f"is for -m; the directory of a run is hydra.{used}.dir=..."
            )
            raise NelboError(f"{argument}: {fact}")
        if argument in ("hydra.run.dir=", "hydra.sweep.dir="):  # would be the current directory
            raise ConfigError(argument[:-1], "", "must be a directory, such as outputs/NAME")


def refuse_unknown_options(arguments: Sequence[str], command: Command) -> None:
    """Refuse an argument that begins with a dash and is not an option of Hydra, in one line instead of Hydra's usage.

    Raises:
        NelboError: with the option and what to type instead.
    """

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:  # an option of Hydra that is misused
            raise NelboError(f"{message}; {command.invocation} --hydra-help lists such options")
        option = max((one for one in arguments if unknown.startswith(one)), key=len, default=unknown)
        if option.startswith("-"):
            raise NelboError(_explain_dashes(option, arguments, command))
        if "=" not in option:
            raise NelboError(explain_invalid(option, arguments, command))
        before = arguments[: list(arguments).index(option)]
        flag = next(one for one in reversed(before) if one.startswith("-"))
        raise NelboError(f"{option}: an option such as {flag} goes before all overrides or after all of them")

    check_options(arguments, refuse)


def explain_invalid(argument: str, arguments: Sequence[str], command: Command) -> str:
    """Return the message for an argument that Hydra's grammar does not accept.

    Args:
        argument: the argument.
        arguments: the whole command line.
        command: the command.
    """
    position = list(arguments).index(argument) if argument in arguments else len(arguments)
    before, after = (arguments[position - 1] if position else ""), list(arguments[position + 1 :])
    key, equals, value = argument.partition("=")
    if not equals:
        return f"{argument}: not an override, which is key=value; {_hint_no_equals(argument, before, after, command)}"
    parts = re.split(r",\s*(?=[\w./@]+=)", argument)
    if len(parts) > 1 and all(part.partition("=")[0] in {*command.groups, *command.config} for part in parts):
        return f"{argument}: overrides are separated by spaces: {' '.join(map(for_shell, parts))}"
    if joined := _joined(argument, after):
        return f"{argument}: the shell splits at spaces; put the whole override in quotes: {for_shell(joined)}"
    if repaired := _repaired(key, value):
        return f"{argument}: Hydra cannot read this; did you mean {for_shell(repaired)}?"
    if parse_override(f"{key}={quoted(value)}"):
        hint = f"{TO_TEXT}: {as_text(key, value)}"
        if value[:1] in CLOSING:
            hint = "a list is [a,b], a mapping {a:1,b:2}, and every bracket is closed"
        return f"{argument}: Hydra cannot read this; {hint}"
    fact = "an override is key=value, and a key is made of letters, digits, _ and dots"
    return f"{argument}: Hydra cannot read this; {fact}"


def _explain_dashes(option: str, arguments: Sequence[str], command: Command) -> str:
    """Return the message for `--key value` and `--key=value`."""
    key, equals, value = option.lstrip("-").partition("=")
    position = list(arguments).index(option)
    following = arguments[position + 1] if position + 1 < len(arguments) else ""
    if not equals and "=" not in following and not following.startswith("-"):
        value = following
    keys = [key] if key in command.own_keys or key in command.config else key_suggestions(key, command)
    if not keys:
        return f"{option}: is not an option; {command.invocation} --help lists what can be typed"
    shown = keys[0] if "=" in keys[0] else f"{keys[0]}={value or 'VALUE'}"
    return f"{option}: is not an option; overrides are typed without dashes, as key=value: {for_shell(shown)}"


def _hint_no_equals(argument: str, before: str, after: Sequence[str], command: Command) -> str:
    """Return the hint for an argument without `=`.

    Args:
        argument: the argument.
        before: the argument before it; empty if there is none.
        after: the arguments after it.
        command: the command.
    """
    if before.endswith("="):
        return f"without a space after the sign: {for_shell(before + argument)}"
    key = argument.rstrip(":")
    is_known = key in command.own_keys or key in command.config
    if after[:1] == ["="] and len(after) > 1:
        return f"without spaces around the sign: {for_shell(key + '=' + after[1])}"
    override = argument.replace(":", "=", 1)
    if ":" in argument and parse_override(override) and not argument.endswith(":"):
        return f"did you mean {for_shell(override)}?"
    if is_known and after and "=" not in after[0] and not after[0].startswith("-"):
        return f"did you mean {for_shell(f'{key}={after[0]}')}?"
    if is_known:
        return f"type {key}=VALUE"
    if "run" in command.config and command.primary != "config" and (Path(argument).exists() or "/" in argument):
        others = [other for other in (before, *after) if other and "=" not in other and Path(other).exists()]
        runs = f"run=[{argument},{others[0]}]" if others else f"run={argument}"
        return f"did you mean {for_shell(runs)}?"
    groups = [group for group in sorted(command.own_groups) if argument in command.options(group)]
    if question := did_you_mean([f"{group}={argument}" for group in groups]):
        return question.strip()
    return f"{command.invocation} --help shows how"


def _joined(argument: str, after: Sequence[str]) -> str:
    """Return the override of which an argument is the beginning and the next ones the rest; empty if there is none."""
    if not _missing_brackets(argument):
        return ""
    joined = argument
    for following in after:
        joined += f" {following}"
        if not _missing_brackets(joined):
            return joined if parse_override(joined) else ""
    return ""


def _missing_brackets(text: str) -> str:
    """Return the brackets that would close those that a text leaves open, the innermost first."""
    missing: list[str] = []
    for character in text:
        if character in CLOSING:
            missing.append(CLOSING[character])
        elif missing and character == missing[-1]:
            missing.pop()
    return "".join(reversed(missing))


def _repaired(key: str, value: str) -> str:
    """Return the override that was likely meant by an invalid one; empty where no usual mistake explains it."""
    candidates = [value.lstrip("="), value.rstrip(","), value.replace(",]", "]")]
    if value.startswith("(") and value.endswith(")"):
        candidates.append(f"[{value[1:-1]}]")
    candidates.append(value + _missing_brackets(value))
    overrides = (f"{key}={candidate}" for candidate in candidates if candidate not in ("", value))
    return next(filter(parse_override, overrides), "")
