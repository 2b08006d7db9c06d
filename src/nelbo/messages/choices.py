"""Overrides that choose an option of a group: unknown options, and lists where one option is chosen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nelbo.composing.command import TOP_LEVEL_GROUPS, Command
from nelbo.composing.compat import parse_override, sweep_values
from nelbo.config.quoting import quoted
from nelbo.config.slots import SLOTS
from nelbo.errors import ConfigError, NelboError, as_hydra_takes
from nelbo.messages.shell import for_shell
from nelbo.messages.suggestions import did_you_mean, option_suggestions

LIST_GROUPS = ("logger", "metrics")
"""Groups of which a list of options is usually chosen."""

GROUPS_WITH_LISTS = (*LIST_GROUPS, "callbacks", *TOP_LEVEL_GROUPS)
"""Groups of which a list of options may be chosen, because each option adds keys of its own."""

ARRAY_FILES = (".npy", ".npz", ".safetensors")
HUB_NAME = re.compile(r"[\w-]+/[\w.-]+", re.ASCII)


def check_choice(argument: str, command: Command) -> None:
    """Refuse an override that chooses an option of a group in a way that Hydra misreads or explains at length.

    Raises:
        NelboError: with the argument and what to type instead.
    """
    override = parse_override(argument)
    if override is None:
        return
    group = override.key_or_group
    if group not in command.own_groups and not (group.startswith("hydra/") and group in command.groups):
        return
    value, options = override.value(), command.options(group)
    if argument.startswith("+") and not argument.startswith("++") and not isinstance(value, dict):
        for name in _texts(value):
            if name not in options:
                raise NelboError(unknown_option(argument.partition("=")[0], name, name, options))
        raise NelboError(f"{argument}: {group} is chosen already; without the plus: {for_shell(argument[1:])}")
    if _contains_list(value) and group not in GROUPS_WITH_LISTS:
        names = list(dict.fromkeys(_texts(value)))
        can_sweep = command.primary == "config" and len(names) > 1
        sweep = f"; -m {group}={','.join(names)} runs each" if can_sweep else ""
        first = names[0] if names else "NAME"
        raise NelboError(f"{argument}: {group} takes one option, not a list: {group}={first}{sweep}")


def unknown_option(group: str, value: str, option: str, options: Sequence[str]) -> str:
    """Return the message for an option that does not exist.

    Args:
        group: the group, as it was typed.
        value: the value, as it was typed.
        option: the name of the option, where the value contains more.
        options: the options of the group.
    """
    bare = group.lstrip("+")
    question = did_you_mean((bare == "data" and _data_choices(option)) or option_suggestions(bare, option, options))
    return f"{group}={value}: there is no such option; {question}choose from {', '.join(options)}"


def explain_slot(error: ConfigError, command: Command) -> str:
    """Return the error of a model's slot that was set to a name, with the option that was meant; empty for others."""
    slot = error.key.removeprefix("model.")
    if slot not in SLOTS or not error.key.startswith("model.") or not isinstance(error.value, str):
        return ""
    group = SLOTS[slot]
    names = [name for name in option_suggestions(group, error.value, command.options(group)) if "=" not in name]
    return str(error).replace(f"{group}=...", f"{group}={names[0]}") if names else ""


def _data_choices(name: str) -> list[str]:
    """Return the overrides that choose data at a path or a data set of the Hugging Face hub; none for other names."""
    if Path(name).suffix in ARRAY_FILES:
        return [f"data=arrays {for_shell(f'data.path={quoted(name)}')}"]
    if name.startswith(("/", ".", "~")) or Path(name).is_dir():
        return [f"data=image_folder {for_shell(f'data.root={quoted(name)}')}"]
    return [f"data=huggingface data.name={name}"] if HUB_NAME.fullmatch(name) else []


def _contains_list(value: object) -> bool:
    """Return whether a value is a list, or a sweep over values of which one is a list."""
    return isinstance(value, list) or any(isinstance(one, list) for one in sweep_values(value) or ())


def _texts(value: object) -> Iterator[str]:
    """Yield every text of a value, of its lists and of what it sweeps over."""
    values = value if isinstance(value, list) else sweep_values(value)
    if values is None:
        yield as_hydra_takes(value)
    else:
        for one in values:
            yield from _texts(one)
