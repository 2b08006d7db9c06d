"""Names that exist for names that do not: `did you mean ...?`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from nelbo.messages.aliases import OPTION_ALIASES

MAX_SUGGESTIONS = 4
"""The largest number of suggestions in one line."""

MIN_SIMILARITY = 0.76
"""The least `difflib.SequenceMatcher.ratio` of two spellings of one name."""

MIN_PART = 3
"""The least number of letters of a part of a longer name; shorter parts are in too many names."""


def normalised(name: str) -> str:
    """Return a name without what spellings differ in: case, `_`, `-`, spaces and dots.

    Examples:
        >>> normalised("CIFAR-10")
        'cifar10'
    """
    return re.sub(r"[\W_]+", "", name).casefold()


def suggestions(name: str, known: Iterable[str], most: int = MAX_SUGGESTIONS) -> list[str]:
    """Return the known names that an unknown name may stand for, the likeliest first.

    These are names with the same normalised spelling; else names that contain it, or that it contains; else similar
    spellings.

    Args:
        name: the unknown name.
        known: the known names.
        most: the largest number of suggestions.

    Examples:
        >>> suggestions("conv_vea", ["conv_vae", "mlp_vae"])
        ['conv_vae']
    """
    typed = normalised(name)
    spellings = {other: normalised(other) for other in known}
    if same := [other for other, spelling in spellings.items() if spelling == typed]:
        return same[:most]
    if len(typed) >= MIN_PART:
        longer = [other for other, spelling in spellings.items() if typed in spelling]
        if longer:
            return sorted(longer, key=lambda other: (not spellings[other].startswith(typed), other))[:most]
        shorter = [other for other, spelling in spellings.items() if len(spelling) >= MIN_PART and spelling in typed]
        if shorter:
            return sorted(shorter, key=lambda other: -len(spellings[other]))[:1]
    return similar(name, spellings)[: min(2, most)]


def similar(name: str, known: Iterable[str], least: float = MIN_SIMILARITY) -> list[str]:
    """Return the known names with a spelling similar to a name, the most similar first.

    Args:
        name: the name.
        known: the known names.
        least: the least similarity, between 0 and 1, which is the same spelling.
    """
    typed = normalised(name)
    similarity = {other: difflib.SequenceMatcher(None, typed, normalised(other)).ratio() for other in known}
    return sorted((other for other in similarity if similarity[other] >= least), key=lambda other: -similarity[other])


def option_suggestions(group: str, name: str, options: Sequence[str]) -> list[str]:
    """Return options of a group, or whole overrides, that an unknown option may stand for.

    Args:
        group: the group, such as `model`.
        name: the unknown option.
        options: the options of the group.
    """
    aliases = OPTION_ALIASES.get(group.partition("@")[0], {}).get(normalised(name), ())
    return [alias for alias in aliases if "=" in alias or alias in options] or suggestions(name, options)


def did_you_mean(names: Sequence[str]) -> str:
    """Return `did you mean a, b or c? `, with a space at the end; empty for no names.

    Examples:
        >>> did_you_mean(["a", "b", "c"])
        'did you mean a, b or c? '
    """
    if not names:
        return ""
    *others, last = names
    return f"did you mean {', '.join(others)} or {last}? " if others else f"did you mean {last}? "
