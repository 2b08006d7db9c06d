"""Where the configs of a run come from: `--config-dir` and the like, and `hydra.searchpath`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from nelbo.config.quoting import quoted

CONFIG_FLAGS = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
LONG = {"-cp": "--config-path", "-cn": "--config-name", "-cd": "--config-dir"}
SEARCH_PATH = "hydra.searchpath"
PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parents[1] / "conf"
"""The folder of the configs: within the package where that is installed, beside src/ in a checkout."""

PRIMARY = "config"
"""The name of the primary config of a run where nobody says another."""

FILE = "file://"


def config_flags(hydra: HydraConf) -> list[str]:
    """`--config-path` and the like, that lead to the configs of a job."""
    flags = {"main": "--config-path", "command-line": "--config-dir"}
    sources = [one for one in hydra.runtime.config_sources if one.provider in flags and one.schema == "file"]
    words = [word for source in sources for word in (flags[source.provider], source.path)]
    return [*words, "--config-name", str(hydra.job.config_name)]


def other_places(hydra: HydraConf) -> list[str]:
    """The words that lead to the configs of a run, where these are not the shipped ones alone; folders are absolute.

    Args:
        hydra: what Hydra knows of the run.
    """
    flags = config_flags(hydra)
    shipped = [("--config-path", SHIPPED), ("--config-name", Path(PRIMARY))]
    pairs = list(zip(flags[::2], flags[1::2], strict=True))
    words = [f"{flag}={value}" for flag, value in pairs if (flag, Path(value)) not in shipped]
    return [*words, *(_absolute(word, hydra.runtime.cwd) for word in hydra.overrides.hydra if is_place(word))]


def is_place(word: str) -> bool:
    """Whether a word of a command line says where configs are; a flag whose value is a word of its own does not."""
    name = word.partition("=")[0].lstrip("+")
    return name == SEARCH_PATH or name in CONFIG_FLAGS


def name_of(word: str) -> str:
    """What a word sets that `is_place`, whichever way it was spelt."""
    name = word.partition("=")[0].lstrip("+")
    return LONG.get(name, name)


def folders(word: str) -> list[str]:
    """The folders that a word which `is_place` names by absolute paths."""
    if name_of(word) != SEARCH_PATH:
        return [] if name_of(word) == "--config-name" else [word.partition("=")[2]]
    return [path.removeprefix(FILE) for path in _search_path(word) if path.startswith(FILE)]


def _absolute(word: str, home: str) -> str:
    paths = [
        path
        if "://" in path and not path.startswith(FILE)
        else FILE + os.path.normpath(os.path.join(home, path.removeprefix(FILE)))
        for path in _search_path(word)
    ]
    return f"{SEARCH_PATH}=[{','.join(map(quoted, paths))}]" if paths else word


def _search_path(word: str) -> Sequence[str]:
    """The entries of `hydra.searchpath=[...]`; none where it is written in another way."""
    try:
        (override,) = OverridesParser.create().parse_overrides([word])
    except HydraException:  # Hydra will say it
        return []
    value = override.value()
    return [str(path) for path in value] if isinstance(value, list) else []
