"""Words as they are pasted into a shell, where Hydra reads them."""

from __future__ import annotations

import shlex

from nelbo.config.quoting import quoted

MEANT_FOR_A_SHELL = frozenset("$`\\!\n")
"""What double quotes of a shell do not take as it stands, beside themselves."""

TO_TEXT = "quotes within quotes make it one text"


def for_shell(word: str) -> str:
    """A word as a shell takes it, readable where it holds quotes of Hydra's."""
    if "'" in word and not MEANT_FOR_A_SHELL & set(word):
        return '"' + word.replace('"', r"\"") + '"'
    return shlex.quote(word)


def as_text(key: str, value: str) -> str:
    """The override that gives a key a value as text, for a shell."""
    if "'" in value and not set('"\\$') & set(value):
        return for_shell(f'{key}="{value}"')
    return for_shell(f"{key}={quoted(value)}")
