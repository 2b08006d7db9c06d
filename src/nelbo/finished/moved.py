"""Where the data of a finished run lie now: `data.root=NEW` behind a script that reads the run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nelbo.config.build import Factory, build
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError
from nelbo.finished.arguments import DATA

SOURCE, NAME, ANY = "source", "name", "**"
FIXED = frozenset(inspect.signature(ImageData).parameters) - {SOURCE, NAME, "options"}
"""What decides how the model saw the images: a finished run has it."""

LATER = {
    "nelbo.data.image_folder": {"max_megapixels": 90},
    "nelbo.data.huggingface": {"max_megapixels": 90},
}
"""Options of sources that earlier checkpoints do not have."""


DATA_PREFIXES = ("nelbo.data.",)


def moved(
    recorded: Mapping[str, Any], typed: Mapping[str, Any] | None, allowed: Sequence[str] = DATA_PREFIXES
) -> dict[str, Any]:
    """A run's data as it was built, in plain containers, with what was typed of where they lie now.

    Args:
        recorded: the checkpoint's `data`.
        typed: options of its source by name, and what stands below `source`; None if nothing was typed.
        allowed: the packages whose functions may be the source; one of them is asked what else it takes.

    Raises:
        ConfigError: for a key that says how images are shown, or one that the source does not have; if anything was
            typed, also for a source that is not allowed.
    """
    plain = copy.deepcopy(dict(recorded))
    source = plain.get(SOURCE)
    if not isinstance(source, dict):  # of a stranger's checkpoint, which is refused when it is built
        return plain
    for key, value in LATER.get(str(source.get("_target_")), {}).items():
        if key not in source:
            plain.setdefault(key, value)
    takes = parameters(source, allowed) if typed else set()
    any_key = ANY in takes
    has = {*source, *plain, *takes} - FIXED - {SOURCE, NAME, ANY}
    for key, value in (typed or {}).items():
        if key == SOURCE and isinstance(value, Mapping):
            for below, argument in value.items():
                if below.startswith("_") or not (any_key or below in {*source, *takes}):
                    raise _no_option(f"{DATA}{SOURCE}.{below}", argument, has)
                source[below] = argument
        elif key in FIXED or key.startswith("_"):
            hint = "is as it was in training: only where the data lie can be given, such as data.root or data.path"
            raise ConfigError(f"{DATA}{key}", value, hint, located=True)
        elif key in source:  # the name of a set on the hub: results keep the one that they had
            source[key] = value
        elif key in plain and key not in (SOURCE, NAME):
            plain[key] = value
        elif key in takes - {SOURCE, NAME}:  # an argument that was left at the function's own default
            source[key] = value
        else:
            raise _no_option(f"{DATA}{key}", value, has)
    return plain


def parameters(source: Mapping[str, Any], allowed: Sequence[str]) -> set[str]:
    """The names of a source's arguments, of a function with `**kwargs` also `ANY`.

    Raises:
        ConfigError: if it is not allowed, or does not exist.
    """
    factory: Factory = build({"_target_": source.get("_target_"), "_partial_": True}, f"{DATA}{SOURCE}", allowed)
    found = inspect.signature(factory.target).parameters.values()
    return {ANY if one.kind == one.VAR_KEYWORD else one.name for one in found if one.kind != one.VAR_POSITIONAL}


def _no_option(key: str, value: object, has: Iterable[str]) -> ConfigError:
    options = ", ".join(f"{DATA}{option}" for option in sorted(has) if not option.startswith("_"))
    hint = f"is not an option of this data set, which has {options or 'none that says where it lies'}"
    return ConfigError(key, value, hint, located=True)


def with_hint(error: ConfigError) -> ConfigError:
    """A refusal of an option of the data, which says how to type where they lie now, if it is one that may be typed."""
    located = error.within("data")
    key = located.key.removeprefix(DATA)
    if key in FIXED:
        return located
    hint = f"{located.hint}; if the data were moved, say where they are: {DATA}{key}=..."
    return ConfigError(located.key, located.value, hint, located=True)
