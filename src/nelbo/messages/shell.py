"""Overrides quoted so that they can be pasted into a shell and are then read by Hydra."""

from __future__ import annotations

import shlex

from nelbo.config.quoting import quoted

SPECIAL_IN_DOUBLE_QUOTES = frozenset("$`\\!\n")
"""Characters, other than the quote itself, that a shell changes within double quotes."""

TO_TEXT = "quotes within quotes make it one text"


def for_shell(argument: str) -> str:
    """Return an argument quoted for a shell, in double quotes where it contains Hydra's single quotes.

    Examples:
        >>> print(for_shell("metrics=[nll,elbo]"))
        'metrics=[nll,elbo]'
        >>> print(for_shell("data.root='my photos'"))
        "data.root='my photos'"
    """
    if "'" in argument and not SPECIAL_IN_DOUBLE_QUOTES & set(argument):
        return '"' + argument.replace('"', r"\"") + '"'
    return shlex.quote(argument)


def as_text(key: str, value: str) -> str:
    """Return the override that sets a key to a value as text, quoted for a shell.

    Examples:
        >>> print(as_text("data.root", "my photos"))
        "data.root='my photos'"
    """
    if "'" in value and not set('"\\$') & set(value):
        return for_shell(f'{key}="{value}"')
    return for_shell(f"{key}={quoted(value)}")
