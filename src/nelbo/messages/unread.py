"""Keys that stand in a config and that nothing reads: a slip whose value would be ignored without a word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from nelbo.composing.script import AT_THE_TOP, COMMANDS, Script, primary_keys
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.keys import hint_for_key

NOTHING_READS = "nothing reads this key"


def refuse_unread(config: DictConfig, script: Script) -> None:
    """Refuse a key that neither the script nor an interpolation reads.

    A key of one's own is one that another value takes: `my: 3` beside `${my}`.

    Args:
        config: the composed config, with `hydra` or without.
        script: whose it is.

    Raises:
        ConfigError: naming the key, with the hint that the key gets without a plus.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    unknown = [str(key) for key in plain if key not in script.own_keys | {"hydra"}]
    unknown += [key for group in sorted(script.groups_without_a_place) for key in _below(group, plain)]
    unknown += [key for key in _below("budget", plain) if key not in script.keys_of_group("budget")]
    if not unknown:
        return
    texts = list(_interpolations(plain))
    if HydraConfig.initialized():
        texts += _interpolations(OmegaConf.to_container(HydraConfig.get(), resolve=False))
    for key in unknown:
        if not any(_takes_from(text, key) for text in texts):
            word = next((word for word in sys.argv[1:] if re.match(rf"\++{re.escape(key)}[.=]", word)), f"{key}=...")
            shown, _, value = word.partition("=")
            raise ConfigError(shown, value, _hint(key, shown.lstrip("+"), value, script), located=True)


def _below(group: str, plain: dict[str, Any]) -> list[str]:
    content = plain.get(group)
    return [f"{group}.{key}" for key in content] if isinstance(content, dict) else []


def refuse_left_out(config: DictConfig, script: Script) -> None:
    """Refuse a config without a key that its script asks for.

    Raises:
        NelboError: naming it.
    """
    for key in sorted(primary_keys(script.primary_file) - set(config) - set(script.groups)):
        raise NelboError(f"~{key}: {COMMANDS[script.primary]} needs it: do not leave it out")


def _hint(key: str, typed: str, value: str, script: Script) -> str:
    group = key.split(".")[0]
    if group in AT_THE_TOP and "." in key:
        head = "# @package _global_"
        return f"{NOTHING_READS}; a file of {group} begins with the line '{head}', which puts its keys at the top"
    own = f"a key of your own is one that another value takes, as ${{{key}}}"
    return f"{NOTHING_READS}; {hint_for_key(typed, value, script) or own}"


def _interpolations(value: Any) -> Iterator[str]:
    """Every text of a tree that takes values from elsewhere."""
    if isinstance(value, str) and "${" in value:
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from _interpolations(child)
    elif isinstance(value, list):
        for child in value:
            yield from _interpolations(child)


def _takes_from(text: str, key: str) -> bool:
    """Whether a text with interpolations takes a key, what stands below it, or the mapping that it stands in.

    It may be relative (`${..my}`) or an argument of a resolver (`${oc.select:my,3}`).
    """
    whole = r"\.".join(map(re.escape, key.split(".")))
    mapping = re.escape(key.split(".")[0])
    return bool(re.search(rf"[{{:,\s]\.*({whole}(?![\w:])|{mapping}\s*[}},])", text))
