"""Words that choose an option of a group, or should: options that there are not, and several where one is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nelbo.composing.script import AT_THE_TOP, Script, parsed
from nelbo.config.quoting import quoted
from nelbo.config.slots import SLOTS
from nelbo.errors import ConfigError, NelboError, as_hydra_takes
from nelbo.messages.names import options_meant, question
from nelbo.messages.shell import for_shell

LISTED = ("logger", "metrics")
"""Groups of which several options at once are usual."""

SEVERAL = (*LISTED, "callbacks", *AT_THE_TOP)
"""Groups of which several options may stand side by side: each adds keys of its own."""

ARRAY_FILES = (".npy", ".npz", ".safetensors")
ON_THE_HUB = re.compile(r"[\w-]+/[\w.-]+", re.ASCII)


def check_choice(word: str, script: Script) -> None:
    """Refuse a word that chooses an option of a group in a way that Hydra would take for something else, or at length.

    Raises:
        NelboError: naming the word and what to type.
    """
    override = parsed(word)
    if override is None:
        return
    group = override.key_or_group
    if group not in script.own_groups and not (group.startswith("hydra/") and group in script.groups):
        return
    value = override.value()
    if word.startswith("+") and not word.startswith("++") and not isinstance(value, dict):
        for name in _names(value):
            if name not in script.options(group):
                raise NelboError(no_option(word.partition("=")[0], name, name, script.options(group)))
        raise NelboError(f"{word}: {group} is chosen already; without the plus: {for_shell(word[1:])}")
    if _lists(value) and group not in SEVERAL:
        names = list(dict.fromkeys(_names(value)))
        trains = script.primary == "config" and len(names) > 1
        each = f"; -m {group}={','.join(names)} tries each" if trains else ""
        one = names[0] if names else "NAME"
        raise NelboError(f"{word}: one option of {group} is chosen, and no list: {group}={one}{each}")


def no_option(group: str, value: str, option: str, options: Sequence[str]) -> str:
    """What to say of an option that there is not.

    Args:
        group: as it was typed.
        value: as it was typed.
        option: its name, where the value is more.
        options: those that there are.
    """
    bare = group.lstrip("+")
    asked = question((bare == "data" and _data_at(option)) or options_meant(bare, option, options))
    return f"{group}={value}: there is no such option; {asked}choose from {', '.join(options)}"


def of_a_slot(error: ConfigError, script: Script) -> str:
    """The line for a model's slot that was given a word, with the option that was meant; empty for other errors."""
    slot = error.key.removeprefix("model.")
    if slot not in SLOTS or not error.key.startswith("model.") or not isinstance(error.value, str):
        return ""
    group = SLOTS[slot]
    named = [name for name in options_meant(group, error.value, script.options(group)) if "=" not in name]
    return str(error).replace(f"{group}=...", f"{group}={named[0]}") if named else ""


def _data_at(place: str) -> list[str]:
    """How data are chosen that lie at a path, or that are a set of the hub; empty if it is neither."""
    if Path(place).suffix in ARRAY_FILES:
        return [f"data=arrays {for_shell(f'data.path={quoted(place)}')}"]
    if place.startswith(("/", ".", "~")) or Path(place).is_dir():
        return [f"data=image_folder {for_shell(f'data.root={quoted(place)}')}"]
    return [f"data=huggingface data.name={place}"] if ON_THE_HUB.fullmatch(place) else []


def _lists(value: object) -> bool:
    """Whether a value is a list, or a sweep over values of which one is."""
    several = getattr(value, "list", [])
    return isinstance(value, list) or any(isinstance(one, list) for one in several)


def _names(value: object) -> Iterator[str]:
    """Every text of a value, of its lists and of what it sweeps over."""
    several = value if isinstance(value, list) else getattr(value, "list", None)
    if several is None:
        yield as_hydra_takes(value)
    else:
        for one in several:
            yield from _names(one)
