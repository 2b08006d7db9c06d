"""Words of a command line that are no `key=value`, and what was meant by them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from nelbo.composing.compat import hydra_options
from nelbo.composing.script import Script, parsed
from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.choices import check_choice
from nelbo.messages.keys import likely_keys
from nelbo.messages.names import meant, question, squeezed
from nelbo.messages.shell import TO_TEXT, as_text, for_shell

SPLIT_BRACES = re.compile(r"[^=]+=(\{\w+:)?\w+:[^{}]*\}?")
"""What a shell makes of each part of `key={a:1,b:2}` and of `key={name:{a:1,b:2}}` where they are not quoted."""

CLOSING = {"[": "]", "{": "}", "(": ")"}


def usage(typed: str, known: Sequence[str], text: str, others: Mapping[str, str]) -> NelboError:
    """The error for a first word that a script does not know.

    Args:
        typed: it; empty if there is none.
        known: the words that it knows.
        text: how it is used, with all of them.
        others: known words by what else they are called.
    """
    near = [others[squeezed(typed)]] if squeezed(typed) in others else meant(typed, known)
    return NelboError(f"{typed}: is not known here; {question(near)}usage: {text}" if typed else f"usage: {text}")


def check_words(words: Sequence[str], script: Script) -> None:
    """Refuse what Hydra would take without a word and use for nothing, or answer at length.

    Raises:
        NelboError: naming the word and what to type.
    """
    refuse_unknown_options(words, script)
    for word, following in pairwise([*words, ""]):
        group = word.removeprefix("+").partition("=")[0]
        if (
            SPLIT_BRACES.fullmatch(word)
            and SPLIT_BRACES.fullmatch(following)
            and following.removeprefix("+").startswith(f"{group}=")
        ):
            raise NelboError(f"{word}: the shell splits braces at commas; quote the whole: '{group}={{...}}'")
        if not word.startswith("-"):
            check_choice(word, script)
    if script.primary != "config":
        return
    many = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(words))
    other, instead = ("run", "sweep") if many else ("sweep", "run")
    # Where the one stands, the other hurts nobody: cells of several processes are started so.
    both = any(word.startswith(f"hydra.{instead}.dir=") for word in words)
    for word in words:
        if word.startswith(f"hydra.{other}.dir=") and not both:
            fact = (
                f"a sweep goes to hydra.{instead}.dir=..."
                if many
                else f"is for -m; a run goes to hydra.{instead}.dir=..."
            )
            raise NelboError(f"{word}: {fact}")
        if word in ("hydra.run.dir=", "hydra.sweep.dir="):  # the current directory, which is no run's
            raise ConfigError(word[:-1], "", "must be a directory, such as outputs/NAME")


def refuse_unknown_options(words: Sequence[str], script: Script) -> None:
    """Refuse what begins with a dash and is no option of Hydra's, in one line instead of its usage.

    Raises:
        NelboError: naming the option and what to type.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown == message:  # an option of Hydra's that is used in a wrong way
            raise NelboError(f"{message}; {script.command} --hydra-help lists such options")
        option = max((word for word in words if unknown.startswith(word)), key=len, default=unknown)
        if option.startswith("-"):
            raise NelboError(_dashed(option, words, script))
        if "=" not in option:
            raise NelboError(not_an_override(option, words, script))
        between = next(word for word in reversed(words[: list(words).index(option)]) if word.startswith("-"))
        raise NelboError(f"{option}: an option such as {between} goes before all overrides or behind all of them")

    parser.error = refuse  # type: ignore[method-assign] # argparse's own prints eight lines and exits
    # As Hydra does: 1.4 takes options between overrides.
    parse = parser.parse_args if hydra_options() else parser.parse_intermixed_args
    parse(list(words), namespace=argparse.Namespace())


def _dashed(option: str, words: Sequence[str], script: Script) -> str:
    """What to say of `--key value` and `--key=value`."""
    key, sign, value = option.lstrip("-").partition("=")
    place = list(words).index(option)
    follows = words[place + 1] if place + 1 < len(words) else ""
    if not sign and "=" not in follows and not follows.startswith("-"):
        value = follows
    keys = [key] if key in script.own_keys or key in script.config else likely_keys(key, script)
    if not keys:
        return f"{option}: is no option; {script.command} --help lists what can be typed"
    shown = keys[0] if "=" in keys[0] else f"{keys[0]}={value or 'VALUE'}"
    return f"{option}: is no option; options are typed without dashes, as key=value: {for_shell(shown)}"


def not_an_override(word: str, words: Sequence[str], script: Script) -> str:
    """What to say of a word that Hydra's grammar does not take.

    Args:
        word: it.
        words: the whole command line.
        script: whose.
    """
    place = list(words).index(word) if word in words else len(words)
    before, after = (words[place - 1] if place else ""), list(words[place + 1 :])
    key, sign, value = word.partition("=")
    if not sign:
        return f"{word}: not an override, which is key=value; {_without_a_sign(word, before, after, script)}"
    pieces = re.split(r",\s*(?=[\w./@]+=)", word)
    if len(pieces) > 1 and all(piece.partition("=")[0] in {*script.groups, *script.config} for piece in pieces):
        return f"{word}: overrides are separated by blanks: {' '.join(map(for_shell, pieces))}"
    if joined := _joined(word, after):
        return f"{word}: the shell splits at blanks; put the whole override in quotes: {for_shell(joined)}"
    if repaired := _repaired(key, value):
        return f"{word}: Hydra cannot read this; did you mean {for_shell(repaired)}?"
    if parsed(f"{key}={quoted(value)}"):
        instead = f"{TO_TEXT}: {as_text(key, value)}"
        if value[:1] in CLOSING:
            instead = "a list is [a,b], a mapping {a:1,b:2}, and every bracket is closed"
        return f"{word}: Hydra cannot read this; {instead}"
    return f"{word}: Hydra cannot read this; an override is key=value, and a key is made of letters, digits, _ and dots"


def _without_a_sign(word: str, before: str, after: Sequence[str], script: Script) -> str:
    """The hint for a word without `=`."""
    if before.endswith("="):
        return f"without a blank behind the sign: {for_shell(before + word)}"
    key = word.rstrip(":")
    known = key in script.own_keys or key in script.config
    if after[:1] == ["="] and len(after) > 1:
        return f"without blanks around the sign: {for_shell(key + '=' + after[1])}"
    if ":" in word and parsed(as_override := word.replace(":", "=", 1)) and not word.endswith(":"):
        return f"did you mean {for_shell(as_override)}?"
    if known and after and "=" not in after[0] and not after[0].startswith("-"):
        return f"did you mean {for_shell(f'{key}={after[0]}')}?"
    if known:
        return f"type {key}=VALUE"
    if "run" in script.config and script.primary != "config" and (Path(word).exists() or "/" in word):
        others = [other for other in (before, *after) if other and "=" not in other and Path(other).exists()]
        several = f"run=[{word},{others[0]}]" if others else f"run={word}"
        return f"did you mean {for_shell(several)}?"
    groups = [group for group in sorted(script.own_groups) if word in script.options(group)]
    if asked := question([f"{group}={word}" for group in groups]):
        return asked.strip()
    return f"{script.command} --help shows how"


def _joined(word: str, after: Sequence[str]) -> str:
    """The override that a word is the beginning of, where the rest of its brackets are in the words behind it."""
    if not _open_brackets(word):
        return ""
    joined = word
    for follows in after:
        joined += f" {follows}"
        if not _open_brackets(joined):
            return joined if parsed(joined) else ""
    return ""


def _open_brackets(text: str) -> str:
    """What would close the brackets that a text leaves open, the innermost first."""
    left: list[str] = []
    for sign in text:
        if sign in CLOSING:
            left.append(CLOSING[sign])
        elif left and sign == left[-1]:
            left.pop()
    return "".join(reversed(left))


def _repaired(key: str, value: str) -> str:
    """The override that was likely meant by one that cannot be read; empty where no usual slip explains it."""
    candidates = [value.lstrip("="), value.rstrip(","), value.replace(",]", "]")]
    if value.startswith("(") and value.endswith(")"):
        candidates.append(f"[{value[1:-1]}]")
    candidates.append(value + _open_brackets(value))
    possible = (f"{key}={candidate}" for candidate in candidates if candidate not in ("", value))
    return next(filter(parsed, possible), "")
