"""Where the configs of a run are: `--config-path`, `--config-name`, `--config-dir` and `hydra.searchpath`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.conf import HydraConf

from nelbo.composing.compat import parse_override
from nelbo.config.quoting import quoted

CONFIG_FLAGS = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
LONG_FLAGS = {"-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir"}
SEARCH_PATH = "hydra.searchpath"
PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1] / "conf"
"""The folder of the configs: inside the installed package, or beside src/ in a checkout."""

PRIMARY = "config"
"""The name of the primary config of `nelbo train`, unless `--config-name` gives another."""

FILE = "file://"


def config_flags(hydra: HydraConf) -> list[str]:
    """Return the flags `--config-path`, `--config-dir` and `--config-name` of a job, each followed by its value.

    Args:
        hydra: Hydra's own part of the job's config.
    """
    flags = {"main": "--config-path", "command-line": "--config-dir"}
    sources = [source for source in hydra.runtime.config_sources if source.provider in flags]
    folders = [(flags[source.provider], source.path) for source in sources if source.schema == "file"]
    return [*(argument for pair in folders for argument in pair), "--config-name", str(hydra.job.config_name)]


def place_arguments(hydra: HydraConf) -> list[str]:
    """Return the arguments that name the folders of a run's configs, with absolute paths; none for the shipped configs.

    Args:
        hydra: Hydra's own part of the run's config.
    """
    flags = config_flags(hydra)
    shipped = [("--config-path", SHIPPED), ("--config-name", Path(PRIMARY))]
    pairs = list(zip(flags[::2], flags[1::2], strict=True))
    arguments = [f"{flag}={value}" for flag, value in pairs if (flag, Path(value)) not in shipped]
    search_paths = [_with_absolute_paths(one, hydra.runtime.cwd) for one in hydra.overrides.hydra if is_place(one)]
    return [*arguments, *search_paths]


def is_place(argument: str) -> bool:
    """Return whether an argument names a place of configs, as one argument or as a flag whose value is the next one."""
    name = argument.partition("=")[0].lstrip("+")
    return name == SEARCH_PATH or name in CONFIG_FLAGS


def place_name(argument: str) -> str:
    """Return the long flag, or the key, of an argument that names a place."""
    name = argument.partition("=")[0].lstrip("+")
    return LONG_FLAGS.get(name, name)


def folders(argument: str) -> list[str]:
    """Return the folders that an argument for a place names by absolute paths."""
    if place_name(argument) != SEARCH_PATH:
        return [] if place_name(argument) == "--config-name" else [argument.partition("=")[2]]
    return [path.removeprefix(FILE) for path in _search_path(argument) if path.startswith(FILE)]


def _with_absolute_paths(argument: str, current: str) -> str:
    """Return `hydra.searchpath=[...]` with paths relative to the current directory made absolute."""
    paths = [
        path
        if "://" in path and not path.startswith(FILE)
        else FILE + os.path.normpath(os.path.join(current, path.removeprefix(FILE)))
        for path in _search_path(argument)
    ]
    return f"{SEARCH_PATH}=[{','.join(map(quoted, paths))}]" if paths else argument


def _search_path(argument: str) -> Sequence[str]:
    """Return the entries of `hydra.searchpath=[...]`; none if it is not a list, which Hydra itself reports."""
    override = parse_override(argument)
    value = None if override is None else override.value()
    return [str(path) for path in value] if isinstance(value, list) else []
