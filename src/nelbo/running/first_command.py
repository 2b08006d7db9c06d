"""`resume=DIRECTORY` alone: a run goes on as it was, with what is typed besides applied on that.

What a run began with stands in its directory twice: the words that were typed (overrides.yaml), and what they meant
then (config.yaml). The words are put in front of those that are typed now, so that Hydra composes as it did; where the
shipped config has changed since, and nobody typed it, the value of then counts. Where a run had configs beside the
shipped ones, overrides.yaml begins with the words that lead to them (`config_places`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nelbo.composing import places as config_places
from nelbo.config.changes import (
    ABSENT,
    Changes,
    differences,
    in_the_shape_of,
    is_one_of,
    read_config,
    value_at,
    was_filled_in,
)
from nelbo.config.identity import MACHINE_FACTS
from nelbo.config.quoting import quoted
from nelbo.directories.names import AUTO, CHECKPOINTS, OVERRIDES
from nelbo.errors import CheckpointError, first_line

OF_ONE_START = ("resume", "resume_changes", "sweep", "trial")
"""Keys that say how a run was started, and not what it is."""


def with_first_words(words: Sequence[str]) -> list[str]:
    """A command line's words; where it says `resume=DIRECTORY`, with those that began the run in front.

    Raises:
        CheckpointError: if it does not say any more how it began.
    """
    folder = _resumed(words)
    if folder is None or not (folder / CHECKPOINTS).is_dir() or {"-m", "--multirun"} & set(words):
        return list(words)
    typed = {_key(word): word for word in words}
    first = [
        word for word in first_words(folder) if word not in words and not _makes_room(word, typed.get(_key(word), ""))
    ]
    start = next(number for number, word in enumerate(words) if "=" in word and not word.startswith("-"))
    said = {config_places.name_of(word) for word in words if config_places.is_place(word)}
    places = [word for word in first_places(folder) if config_places.name_of(word) not in said]
    _refuse_lost(places, folder)
    flags, paths = ([word for word in places if word.startswith("-") == is_flag] for is_flag in (True, False))
    return [*flags, *words[:start], *paths, *first, *words[start:]]


def began_with(overrides: Sequence[str]) -> list[str]:
    """What a run keeps of the words that it begins with.

    Args:
        overrides: of its config.
    """
    return [*config_places.other_places(HydraConfig.get()), *overrides]


def first_places(folder: Path) -> list[str]:
    """The words that lead to the configs of the run of a directory, where it had others than the shipped ones.

    Raises:
        CheckpointError: if it does not say any more how it began.
    """
    return [word for word in _record(folder) if config_places.is_place(word)]


def first_words(folder: Path) -> list[str]:
    """What was typed when the run of a directory began, but for what concerned that start alone.

    Raises:
        CheckpointError: if it does not say that any more.
    """
    return [word for word in _record(folder) if not config_places.is_place(word) and _key(word) not in OF_ONE_START]


def hint_for(message: str, typed: Sequence[str], words: Sequence[str]) -> str:
    """What to add to the refusal of a word that `with_first_words` put in front; empty for any other.

    Runs of earlier versions do not say where their configs were.

    Args:
        message: the refusal, which begins with the word.
        typed: the command line.
        words: the same with the words that were put in front.
    """
    added = {_key(word) for word in words if word not in typed}
    if re.split("[=:]", message.lstrip("+~"), maxsplit=1)[0] not in added:
        return ""
    fact = f"the run in {_resumed(typed)} began with that"
    return f"; {fact}: if its configs lay in a folder of their own, say which: --config-dir=FOLDER"


def _refuse_lost(places: Sequence[str], folder: Path) -> None:
    """Refuse to go on without the configs that a run began with.

    Raises:
        CheckpointError: if a folder of them is not there any more.
    """
    for word in places:
        for place in config_places.folders(word):
            if not Path(place).is_dir():
                name = config_places.name_of(word)
                new = f"{name}='[file://FOLDER]'" if name == config_places.SEARCH_PATH else f"{name}=FOLDER"
                fact = f"the run in {folder} began with its configs there, and it is no folder any more"
                raise CheckpointError(f"{name}={place}: {fact}; say where they are now: {new}")


def _record(folder: Path) -> list[str]:
    """What a run's directory says of the words that began it.

    Raises:
        CheckpointError: if it does not say that any more.
    """
    file = folder / OVERRIDES
    hint = f"type what it began with, and hydra.run.dir={quoted(str(folder))} resume=auto"
    try:
        words = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({first_line(error)}); {hint}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{file}: is not a list of what was typed; {hint}")
    return words


def restore(config: DictConfig, plain: Mapping[str, Any], folder: Path) -> None:
    """Give keys of a composed config the values that they had when the run of `folder` began, unless they were typed.

    Keys that there were not then stay as they are.

    Args:
        config: what the words of then and of now compose to; it is changed.
        plain: the same, resolved.
        folder: the run's directory.

    Raises:
        CheckpointError: if the directory does not say any more how the run began.
    """
    before = read_config(folder)
    typed = _typed(plain, folder)
    alike = in_the_shape_of(before, plain)
    if alike is not plain:  # one logger without a name: as a whole, for its keys stand elsewhere now
        if differences(before["logger"], alike["logger"]) and not any(is_one_of(key, ("logger",)) for key in typed):
            with open_dict(config):
                OmegaConf.update(config, "logger", before["logger"], merge=False)
        alike = {**alike, "logger": before["logger"]}
    for key, (was, now) in differences(before, alike).items():
        meant = is_one_of(key, (*MACHINE_FACTS, *typed)) or any(is_one_of(other, (key,)) for other in typed)
        if meant or was_filled_in(before, plain, key, (was, now)) or value_at(before, key) is ABSENT:
            continue
        with open_dict(config):
            OmegaConf.update(config, key, was, merge=False, force_add=True)


def first_config(folder: Path) -> dict[str, Any] | None:
    """What the words that began the run of a directory compose to now, resolved; None if they do not any more."""
    with contextlib.suppress(CheckpointError, HydraException, OmegaConfBaseException):
        loader = GlobalHydra.instance().config_loader()
        places = [word for word in HydraConfig.get().overrides.hydra if config_places.is_place(word)]  # as they are now
        words = [*places, *first_words(folder)]
        config = loader.load_configuration(HydraConfig.get().job.config_name, words, RunMode.RUN)
        with open_dict(config):
            del config["hydra"]
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    return None


def _typed(plain: Mapping[str, Any], folder: Path) -> Changes:
    """What the words that were typed now change of the config."""
    words = [word for word in HydraConfig.get().overrides.task if _key(word) not in OF_ONE_START]
    if words == first_words(folder):
        return {}
    first = first_config(folder)
    return differences(plain if first is None else first, plain)


def _resumed(words: Sequence[str]) -> Path | None:
    """The directory that the last `resume=` names, if it is one."""
    said = [word for word in words if word.lstrip("+").startswith("resume=")]
    if not said:
        return None
    try:
        (override,) = OverridesParser.create().parse_overrides(said[-1:])
    except HydraException:  # Hydra will say it
        return None
    value = override.value()
    return Path(value) if isinstance(value, str) and value != AUTO else None


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _makes_room(word: str, again: str) -> bool:
    """Whether a word of then is left out for one of now; what adds a key must stay for one that changes it."""
    signs = [one[: len(one) - len(one.lstrip("+~"))] for one in (word, again)]
    return bool(again) and (signs[0] == signs[1] or signs[0] == "~")
