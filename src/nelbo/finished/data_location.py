"""The new location of a finished run's data: `data.root=NEW`, given to a command that reads the run."""

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
MODULE = "module"
"""Where a DataModule of the user's own stands in place of a source."""

OTHER_SOURCES = ("test_source", "val_source")
"""Sources beside it, of test and validation examples of a Dataset."""

FIXED = frozenset(inspect.signature(ImageData).parameters) - {SOURCE, NAME, "options"}
"""Options that determine how the model saw the images; they are those of the training."""

LATER = {
    "nelbo.data.image_folder": {"max_megapixels": 90},
    "nelbo.data.huggingface": {"max_megapixels": 90},
}
"""Options of sources, with their values, that checkpoints of earlier versions lack."""


DATA_PREFIXES = ("nelbo.data.",)


def relocated(
    recorded: Mapping[str, Any], typed: Mapping[str, Any] | None, allowed: Sequence[str] = DATA_PREFIXES
) -> dict[str, Any]:
    """Return the config of a run's data with the new location of the data.

    Args:
        recorded: the config that the checkpoint records.
        typed: new options of the data's source by name, or below `source`; None for the recorded location.
        allowed: the packages whose functions may be the source; the signature of such a function is inspected.

    Raises:
        ConfigError: for an option of `FIXED`, or one that the source does not have; if anything was typed, also for a
            source that is not allowed.
    """
    plain = copy.deepcopy(dict(recorded))
    place = MODULE if SOURCE not in plain and MODULE in plain else SOURCE
    source = plain.get(place)
    if not isinstance(source, dict):  # an invalid checkpoint, which is refused when the data are built
        return plain
    for key, value in LATER.get(str(source.get("_target_")), {}).items():
        if key not in source:
            plain.setdefault(key, value)
    takes = parameters(source, allowed) if typed else set()
    any_key = ANY in takes
    options = {*source, *plain, *takes} - FIXED - {place, NAME, ANY}
    for key, value in (typed or {}).items():
        if key == place and isinstance(value, Mapping):
            for below, argument in value.items():
                if below.startswith("_") or not (any_key or below in {*source, *takes}):
                    raise _unknown_option(f"{DATA}{place}.{below}", argument, options)
                source[below] = argument
        elif key in OTHER_SOURCES and isinstance(value, Mapping) and isinstance(plain.get(key), dict):
            for below, argument in value.items():
                if below.startswith("_") or below not in plain[key]:
                    raise _unknown_option(f"{DATA}{key}.{below}", argument, plain[key])
                plain[key][below] = argument
        elif key in FIXED or key.startswith("_"):
            hint = "is fixed by training; only the location of the data can be given, such as data.root or data.path"
            raise ConfigError(f"{DATA}{key}", value, hint, located=True)
        elif key in source:  # `name` of a data set on the hub is one of these; results keep the recorded name
            source[key] = value
        elif key in plain and key not in (place, NAME, *OTHER_SOURCES):
            plain[key] = value
        elif key in takes - {place, NAME}:  # an argument that was left at the function's default
            source[key] = value
        else:
            raise _unknown_option(f"{DATA}{key}", value, options)
    return plain


def parameters(source: Mapping[str, Any], allowed: Sequence[str]) -> set[str]:
    """Return the names of a source's arguments, with `ANY` for a function with `**kwargs`.

    Raises:
        ConfigError: if the source is not allowed, or does not exist.
    """
    factory: Factory = build({"_target_": source.get("_target_"), "_partial_": True}, f"{DATA}{SOURCE}", allowed)
    signature = inspect.signature(factory.target).parameters.values()
    return {ANY if one.kind == one.VAR_KEYWORD else one.name for one in signature if one.kind != one.VAR_POSITIONAL}


def _unknown_option(key: str, value: object, options: Iterable[str]) -> ConfigError:
    """Return the error for an option that the data set does not have, with those that it has."""
    names = ", ".join(f"{DATA}{option}" for option in sorted(options) if not option.startswith("_"))
    hint = f"is not an option of this data set, which has {names or 'no option for its location'}"
    return ConfigError(key, value, hint, located=True)


def with_hint(error: ConfigError) -> ConfigError:
    """Return an error about an option of the data with the hint to give its new value, where that is possible."""
    located = error.within("data")
    key = located.key.removeprefix(DATA)
    if key in FIXED:
        return located
    hint = f"{located.hint}; if the data were moved, give their location: {DATA}{key}=..."
    return ConfigError(located.key, located.value, hint, located=True)
