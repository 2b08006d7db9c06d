"""The command that began a run, for `resume=DIRECTORY`: the run resumes with the config that it began with.

A run's directory records its first command twice: the arguments (overrides.yaml) and the config that they composed
(config.yaml). To resume, the recorded arguments are put before the new ones, so that Hydra composes the config again.
Where the shipped config has changed since and no new argument sets the key, the recorded value is used. If the run had
configs beside the shipped ones, overrides.yaml begins with the arguments that name their places (`composing.places`).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from nelbo.composing import places
from nelbo.composing.compat import compose_again, parse_override
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
from nelbo.config.identity import ABSENT_MEANS, MACHINE_FACTS
from nelbo.config.quoting import quoted
from nelbo.directories.names import AUTO, CHECKPOINTS, OVERRIDES
from nelbo.errors import CheckpointError, first_line

START_KEYS = ("resume", "resume_changes", "sweep", "trial")
"""Keys that describe how a run was started, and not the run itself."""


def with_first_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line; for `resume=DIRECTORY`, with the arguments that began the run before the typed ones.

    Raises:
        CheckpointError: if the directory has no readable record of these, or a folder of its configs is missing.
    """
    folder = _resumed(arguments)
    if folder is None or not (folder / CHECKPOINTS).is_dir() or {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    typed = {_key(argument): argument for argument in arguments}
    first = [
        argument
        for argument in first_overrides(folder)
        if argument not in arguments and not _is_replaced(argument, typed.get(_key(argument), ""))
    ]
    start = next(number for number, one in enumerate(arguments) if "=" in one and not one.startswith("-"))
    named = {places.place_name(argument) for argument in arguments if places.is_place(argument)}
    recorded = [argument for argument in first_places(folder) if places.place_name(argument) not in named]
    _refuse_missing_folders(recorded, folder)
    flags = [argument for argument in recorded if argument.startswith("-")]
    search_paths = [argument for argument in recorded if not argument.startswith("-")]
    return [*flags, *arguments[:start], *search_paths, *first, *arguments[start:]]


def arguments_to_record(overrides: Sequence[str]) -> list[str]:
    """Return the arguments that a run records when it begins: those for the places of its configs, and its overrides.

    Args:
        overrides: the overrides of the run's config.
    """
    return [*places.place_arguments(HydraConfig.get()), *overrides]


def first_places(folder: Path) -> list[str]:
    """Return the recorded arguments for places of configs; none if the run had the shipped configs only.

    Raises:
        CheckpointError: if the directory has no readable record.
    """
    return [argument for argument in _record(folder) if places.is_place(argument)]


def first_overrides(folder: Path) -> list[str]:
    """Return the overrides that began the run of a directory, without those of `START_KEYS`.

    Raises:
        CheckpointError: if the directory has no readable record.
    """
    overrides = [argument for argument in _record(folder) if not places.is_place(argument)]
    return [override for override in overrides if _key(override) not in START_KEYS]


def hint_for(message: str, typed: Sequence[str], arguments: Sequence[str]) -> str:
    """Return what to add to the error for an argument that `with_first_arguments` has added; empty for other errors.

    Runs of earlier versions do not record the places of their configs.

    Args:
        message: the error, which begins with the argument.
        typed: the command line as it was typed.
        arguments: the command line with the added arguments.
    """
    added = {_key(argument) for argument in arguments if argument not in typed}
    if re.split("[=:]", message.lstrip("+~"), maxsplit=1)[0] not in added:
        return ""
    fact = f"the run in {_resumed(typed)} began with this argument"
    return f"; {fact}: if its configs are in another folder, name it: --config-dir=FOLDER"


def _refuse_missing_folders(recorded: Sequence[str], folder: Path) -> None:
    """Refuse to resume a run without its configs.

    Args:
        recorded: the arguments for the places of the configs.
        folder: the run's directory.

    Raises:
        CheckpointError: if one of the folders does not exist.
    """
    for argument in recorded:
        for place in places.folders(argument):
            if not Path(place).is_dir():
                name = places.place_name(argument)
                new = f"{name}='[file://FOLDER]'" if name == places.SEARCH_PATH else f"{name}=FOLDER"
                fact = f"the run in {folder} began with its configs there, and the folder does not exist any more"
                raise CheckpointError(f"{name}={place}: {fact}; name the current one: {new}")


def _record(folder: Path) -> list[str]:
    """Return the arguments that a run's directory records.

    Raises:
        CheckpointError: if the record is missing or damaged.
    """
    file = folder / OVERRIDES
    hint = f"repeat the arguments that began the run, with hydra.run.dir={quoted(str(folder))} resume=auto"
    try:
        arguments = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read ({first_line(error)}); {hint}") from error
    if not isinstance(arguments, list) or not all(isinstance(argument, str) for argument in arguments):
        raise CheckpointError(f"{file}: is not a list of arguments; {hint}")
    return arguments


def restore(config: DictConfig, plain: Mapping[str, Any], folder: Path) -> None:
    """Set keys of a composed config to the values that the run began with, unless they were typed now.

    A key that did not exist then is set to the value that its absence means (`identity.ABSENT_MEANS`); one that is not
    listed there keeps the present value.

    Args:
        config: the config that the recorded and the typed arguments compose; it is changed in place.
        plain: the same config, resolved.
        folder: the run's directory.

    Raises:
        CheckpointError: if the directory has no readable record.
    """
    before = read_config(folder)
    typed = _typed_changes(plain, folder)
    reshaped = in_the_shape_of(before, plain)
    if reshaped is not plain:  # an old config: its one logger has no name, and is restored as a whole
        is_typed = any(is_one_of(key, ("logger",)) for key in typed)
        if differences(before["logger"], reshaped["logger"]) and not is_typed:
            with open_dict(config):
                OmegaConf.update(config, "logger", before["logger"], merge=False)
        reshaped = {**reshaped, "logger": before["logger"]}
    for key, (was, now) in differences(before, reshaped).items():
        is_meant = is_one_of(key, (*MACHINE_FACTS, *typed)) or any(is_one_of(other, (key,)) for other in typed)
        if is_meant or was_filled_in(before, plain, key, (was, now)):
            continue
        group, _, below = key.partition(".")
        if value_at(before, key) is ABSENT and below and before.get(group, {}) == {} == ABSENT_MEANS.get(group):
            key, was = group, {}  # an option was none, and none is chosen by default now
        elif value_at(before, key) is ABSENT and key in ABSENT_MEANS:
            was = ABSENT_MEANS[key]
        elif value_at(before, key) is ABSENT:
            continue
        with open_dict(config):
            OmegaConf.update(config, key, was, merge=False, force_add=True)


def first_config(folder: Path) -> dict[str, Any] | None:
    """Return the config that the recorded arguments compose now, resolved; None if they cannot be composed any more."""
    with contextlib.suppress(CheckpointError, HydraException, OmegaConfBaseException):
        current = [argument for argument in HydraConfig.get().overrides.hydra if places.is_place(argument)]
        config = compose_again(HydraConfig.get().job.config_name, [*current, *first_overrides(folder)])
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    return None


def _typed_changes(plain: Mapping[str, Any], folder: Path) -> Changes:
    """Return what the typed arguments change of the config that the recorded ones compose."""
    overrides = [override for override in HydraConfig.get().overrides.task if _key(override) not in START_KEYS]
    if overrides == first_overrides(folder):
        return {}
    first = first_config(folder)
    return differences(plain if first is None else first, plain)


def _resumed(arguments: Sequence[str]) -> Path | None:
    """Return the directory that the last `resume=` names; None if it names none."""
    resuming = [argument for argument in arguments if argument.lstrip("+").startswith("resume=")]
    override = parse_override(resuming[-1]) if resuming else None
    value = None if override is None else override.value()  # Hydra itself reports an invalid one
    return Path(value) if isinstance(value, str) and value != AUTO else None


def _key(argument: str) -> str:
    """Return the key of an override, without its sign."""
    return argument.lstrip("+~").partition("=")[0]


def _is_replaced(recorded: str, typed: str) -> bool:
    """Return whether a typed override of the same key replaces a recorded one.

    A recorded override that adds a key must stay for a typed one that changes it.
    """
    signs = [override[: len(override) - len(override.lstrip("+~"))] for override in (recorded, typed)]
    return bool(typed) and (signs[0] == signs[1] or signs[0] == "~")
