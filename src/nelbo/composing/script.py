"""The configs of a command, as far as help and errors need them: its groups, their options, and its keys."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nelbo.composing.compat import hydra_options
from nelbo.config.quoting import quoted
from nelbo.terminal.programs import program

COMMANDS = {"config": "train", "evaluate": "evaluate", "draw": "draw"}
"""The commands whose command line Hydra reads, by the name of their primary config."""

AT_THE_TOP = ("experiment", "debug", "sweep")
"""Groups whose files put their keys at the top of the config: below the group's own name nobody reads them."""

SPECIAL = ("_target_", "_partial_")


@dataclass(frozen=True)
class Script:
    """A command whose command line Hydra reads.

    Args:
        program: what starts it, such as `nelbo train` or `python train.py`.
        home: the folder of its configs.
        primary: the name of its primary config.
    """

    program: str
    home: Path
    primary: str

    @classmethod
    def running(cls, config: DictConfig) -> Script:
        """Return the command that Hydra runs.

        Args:
            config: the composed config, with `hydra`.
        """
        (home,) = (source.path for source in config.hydra.runtime.config_sources if source.provider == "main")
        primary = config.hydra.job.config_name
        return cls(program(COMMANDS.get(primary, "train")), Path(home), primary)

    @property
    def command(self) -> str:
        """What starts it, with the words that choose its config, such as `python train.py model=mlp_vae`."""
        choosing = [word.removeprefix("picture=") for word in self.choosing]  # `nelbo draw KIND`
        return " ".join([self.program, *choosing])

    @cached_property
    def choosing(self) -> list[str]:
        """The words of the command line that choose options of groups, where those exist; of several the first."""
        chosen = []
        for word in sys.argv[1:]:
            group, _, option = word.lstrip("+").partition("=")
            first = option.split(",")[0]
            ours = group.partition("@")[0] in self.own_groups or group.startswith("hydra/")
            if ours and first in self.options(group):
                chosen.append(f"{group}={first}")
        return chosen

    @cached_property
    def groups(self) -> list[str]:
        """Those of the primary config and those that a user may add, such as `model` and `hydra/launcher`."""
        return [str(folder.relative_to(self.home)) for folder in sorted(self.home.rglob("*")) if folder.is_dir()]

    def options(self, group: str) -> list[str]:
        """The options of a group; none of one that does not exist."""
        group = group.partition("@")[0]
        if not re.fullmatch(r"[\w/]+", group):
            return []
        return sorted(file.stem for file in (self.home / group).glob("*.yaml"))

    @cached_property
    def own_keys(self) -> set[str]:
        """The top-level keys that the primary config has, groups among them."""
        return primary_keys(self.primary_file)

    @cached_property
    def own_groups(self) -> set[str]:
        """The groups that the primary config chooses an option of."""
        return primary_groups(self.primary_file)

    @cached_property
    def groups_without_a_place(self) -> set[str]:
        """The groups whose options put their keys elsewhere: nothing reads what stands below the group's own name."""
        return {
            group
            for group in self.own_groups
            if not any(key.partition(".")[0] == group for key in self.keys_of_group(group))
        }

    @property
    def help_template(self) -> str:
        """The text for `--help` that the primary config has; empty if it has none."""
        template = _content(self.primary_file).get("hydra", {}).get("help", {}).get("template", "")
        return str(template)

    @property
    def defaults(self) -> dict[str, Any]:
        """The option, or list of options, of each group of the primary config, with what the command line chooses."""
        chosen: dict[str, Any] = {}
        for item in _content(self.primary_file).get("defaults", []):
            if isinstance(item, Mapping):
                chosen |= {str(name).partition("@")[0]: option for name, option in item.items()}
        composed = self._composed.get("hydra.runtime.choices", {})  # a model's file may choose another budget
        return {
            name: option if isinstance(option, list) else composed.get(name, option)
            for name, option in chosen.items()
            if not name.startswith("override ")
        }

    @property
    def yaml(self) -> str:
        """The composed config with the options that were chosen, as YAML; empty where it cannot be composed."""
        composed = {key: value for key, value in self._composed.items() if "." not in key and key != "hydra"}
        return yaml.safe_dump(composed, sort_keys=False) if composed else ""

    @property
    def primary_file(self) -> Path:
        """The primary config as it is shipped."""
        return self.home / f"{self.primary}.yaml"

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every dotted key and its value, unresolved, of the config with the options that were chosen.

        Empty where that cannot be composed: an error has to be said without it then.
        """
        return {key: value for key, value in self._composed.items() if key.partition(".")[0] != "hydra"}

    @property
    def hydra_keys(self) -> list[str]:
        """Hydra's own keys."""
        return [key for key in self._composed if key.startswith("hydra.")]

    @cached_property
    def _composed(self) -> dict[str, Any]:
        running = GlobalHydra.instance().is_initialized()  # it knows the folders of --config-dir then
        opened: AbstractContextManager[None] = (
            nullcontext() if running else initialize_config_dir(str(self.home.resolve()), **hydra_options())
        )
        more = [] if running else _more_homes()
        searched = [f"hydra.searchpath=[{','.join(map(quoted, more))}]"] if more else []
        try:
            with opened:
                composed = compose(self.primary, overrides=[*self.choosing, *searched], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError):
            return {}
        return dict(flat(OmegaConf.to_container(composed, resolve=False)))

    def options_with(self, key: str) -> dict[str, list[str]]:
        """Which options of groups have a key: `GROUP=OPTION` by the whole dotted key.

        Args:
            key: a dotted key, or its end.
        """
        having: dict[str, list[str]] = {}
        of_hydra = [group for group in self.groups if group.startswith("hydra/")] if key.startswith("hydra.") else []
        for group in of_hydra or sorted(self.own_groups - set(AT_THE_TOP)):
            for option in self.options(group):
                for whole in _keys_of(self.home / group / f"{option}.yaml", group):
                    if f".{whole}".endswith(f".{key}"):
                        having.setdefault(whole, []).append(f"{group}={option}")
        return having

    def keys_of_group(self, group: str) -> set[str]:
        """Every dotted key that an option of a group sets."""
        return {key for option in self.options(group) for key in _keys_of(self.home / group / f"{option}.yaml", group)}


def primary_keys(file: Path) -> set[str]:
    """The top-level keys of a primary config, the groups that it chooses among them; none if it cannot be read."""
    return {str(key) for key in _content(file) if key not in ("defaults", "hydra")} | primary_groups(file)


def primary_groups(file: Path) -> set[str]:
    """The groups that a primary config chooses an option of; none if it cannot be read."""
    chosen = [next(iter(item)) for item in _content(file).get("defaults", []) if isinstance(item, Mapping)]
    return {str(name).partition("@")[0] for name in chosen if not str(name).startswith("override ")}


def _content(file: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every node of a plain tree by its dotted key, mappings themselves too; in lists nothing has a key."""
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from flat(child, f"{path}.{key}" if path else str(key))


def parsed(word: str) -> Any:
    """An override as Hydra's grammar reads it; None where it cannot."""
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, ValueError):
        return None


def _keys_of(file: Path, group: str) -> list[str]:
    """The dotted keys that a file of a group sets, where they stand in the config."""
    try:
        text = file.read_text()
        content = yaml.safe_load(text)
    except (OSError, yaml.YAMLError):
        return []
    header = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
    package = header[1] if header else group.replace("/", ".")
    place = "" if package == "_global_" else package.replace("_group_", group)
    if not isinstance(content, Mapping):
        return []
    return [key for key, _ in flat(content, place) if key.split(".")[-1] not in (*SPECIAL, "defaults") and key != place]


def _more_homes() -> list[str]:
    """Folders of a user's own configs, which --config-dir names."""
    named = [value for word, value in pairwise(sys.argv[1:]) if word in ("--config-dir", "-cd")]
    named += [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--config-dir=")]
    return [f"file://{Path(folder).resolve()}" for folder in named]
