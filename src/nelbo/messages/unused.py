"""Config keys that nothing reads, whose values would silently be ignored, and keys that a command lacks."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nelbo.composing.command import COMMANDS, TOP_LEVEL_GROUPS, Command, primary_keys
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.keys import hint_for_key

NOTHING_READS = "nothing reads this key"


def refuse_unused_keys(config: DictConfig, command: Command) -> None:
    """Refuse a key that neither the command nor an interpolation reads.

    A user may add a key that another value interpolates: `my: 3` beside `${my}`.

    Args:
        config: the composed config, with or without `hydra`.
        command: the command that reads it.

    Raises:
        ConfigError: for the first unused key, with the hint for an unknown key.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    unknown = [str(key) for key in plain if key not in command.own_keys | {"hydra"}]
    unknown += [key for group in sorted(command.groups_without_own_keys) for key in _keys_below(group, plain)]
    unknown += [key for key in _keys_below("budget", plain) if key not in command.keys_of_group("budget")]
    if not unknown:
        return
    texts = list(_interpolations(plain))
    if HydraConfig.initialized():
        texts += _interpolations(OmegaConf.to_container(HydraConfig.get(), resolve=False))
    for key in unknown:
        if not any(_interpolates(text, key) for text in texts):
            overrides = (argument for argument in sys.argv[1:] if re.match(rf"\++{re.escape(key)}[.=]", argument))
            shown, _, value = next(overrides, f"{key}=...").partition("=")
            raise ConfigError(shown, value, _hint(key, shown.lstrip("+"), value, command), located=True)


def refuse_missing_keys(config: DictConfig, command: Command) -> None:
    """Refuse a config without a key of the command's primary config.

    Raises:
        NelboError: for the first missing key.
    """
    for key in sorted(primary_keys(command.primary_file) - set(config) - set(command.groups)):
        raise NelboError(f"~{key}: {COMMANDS[command.primary]} needs it: do not leave it out")


def _keys_below(group: str, plain: dict[str, Any]) -> list[str]:
    """Return the dotted keys below the name of a group."""
    content = plain.get(group)
    return [f"{group}.{key}" for key in content] if isinstance(content, dict) else []


def _hint(key: str, typed: str, value: str, command: Command) -> str:
    """Return the hint for an unused key.

    Args:
        key: the unused key.
        typed: the key as it was typed, which may be below the unused one.
        value: the value, as it was typed.
        command: the command.
    """
    group = key.split(".")[0]
    if group in TOP_LEVEL_GROUPS and "." in key:
        header = "# @package _global_"
        return f"{NOTHING_READS}; a file of {group} begins with the line '{header}', which puts its keys at the top"
    added = f"a key of your own must be used by another value, as ${{{key}}}"
    return f"{NOTHING_READS}; {hint_for_key(typed, value, command) or added}"


def _interpolations(value: Any) -> Iterator[str]:
    """Yield every text with an interpolation in nested containers."""
    if isinstance(value, str) and "${" in value:
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _interpolations(child)
    elif isinstance(value, list):
        for child in value:
            yield from _interpolations(child)


def _interpolates(text: str, key: str) -> bool:
    """Return whether a text interpolates a key, a key below it, or the mapping that contains it.

    The interpolation may be relative (`${..my}`) or an argument of a resolver (`${oc.select:my,3}`).
    """
    whole = r"\.".join(map(re.escape, key.split(".")))
    mapping = re.escape(key.split(".")[0])
    return bool(re.search(rf"[{{:,\s]\.*({whole}(?![\w:])|{mapping}\s*[}},])", text))
