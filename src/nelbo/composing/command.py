"""A command whose command line Hydra reads, with the groups, options and keys of its configs for help and errors."""

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
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nelbo.composing.compat import hydra_options, is_composing
from nelbo.config.quoting import quoted
from nelbo.terminal.programs import program

YAML_LOADER: type[yaml.SafeLoader] | type[yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C, ten times as fast, where PyYAML was built with it."""

COMMANDS = {"config": "train", "evaluate": "evaluate", "draw": "draw"}
"""The commands whose command line Hydra reads, by the name of their primary config."""

TOP_LEVEL_GROUPS = ("experiment", "debug", "sweep")
"""Groups whose files set keys at the top level of the config; nothing reads keys below the names of these groups."""

SPECIAL_KEYS = ("_target_", "_partial_")


@dataclass(frozen=True)
class Command:
    """A command whose command line Hydra reads.

    Args:
        program: what starts it, such as `nelbo train` or `python train.py`.
        folder: the folder of its configs.
        primary: the name of its primary config.
    """

    program: str
    folder: Path
    primary: str

    @classmethod
    def running(cls, config: DictConfig) -> Command:
        """Return the command that Hydra runs.

        Args:
            config: the composed config, with `hydra`.
        """
        (folder,) = (source.path for source in config.hydra.runtime.config_sources if source.provider == "main")
        primary = config.hydra.job.config_name
        return cls(program(COMMANDS.get(primary, "train")), Path(folder), primary)

    @property
    def invocation(self) -> str:
        """The program with the arguments that choose its config, such as `python train.py model=mlp_vae`."""
        choices = [argument.removeprefix("picture=") for argument in self.choices]  # `nelbo draw KIND`
        return " ".join([self.program, *choices])

    @cached_property
    def choices(self) -> list[str]:
        """The overrides on the command line that choose an existing option of a group; of several options the first."""
        choices = []
        for argument in sys.argv[1:]:
            group, _, option = argument.lstrip("+").partition("=")
            first = option.split(",")[0]
            is_known = group.partition("@")[0] in self.own_groups or group.startswith("hydra/")
            if is_known and first in self.options(group):
                choices.append(f"{group}={first}")
        return choices

    @cached_property
    def groups(self) -> list[str]:
        """Every group: those of the primary config, and those that a user may add, such as `hydra/launcher`."""
        folders = [folder for folder in sorted(self.folder.rglob("*")) if folder.is_dir()]
        return [str(folder.relative_to(self.folder)) for folder in folders]

    def options(self, group: str) -> list[str]:
        """Return the names of the options of a group; none if the group does not exist."""
        group = group.partition("@")[0]
        if not re.fullmatch(r"[\w/]+", group):
            return []
        return sorted(file.stem for file in (self.folder / group).glob("*.yaml"))

    @cached_property
    def own_keys(self) -> set[str]:
        """The top-level keys of the primary config, including its groups."""
        return primary_keys(self.primary_file)

    @cached_property
    def own_groups(self) -> set[str]:
        """The groups of which the primary config chooses an option."""
        return primary_groups(self.primary_file)

    @cached_property
    def groups_without_own_keys(self) -> set[str]:
        """The groups whose options set keys elsewhere in the config and none below the group's own name."""
        return {
            group
            for group in self.own_groups
            if not any(key.partition(".")[0] == group for key in self.keys_of_group(group))
        }

    @property
    def help_template(self) -> str:
        """The text for `--help` in the primary config; empty if it has none."""
        template = _content(self.primary_file).get("hydra", {}).get("help", {}).get("template", "")
        return str(template)

    @property
    def defaults(self) -> dict[str, Any]:
        """The chosen option, or list of options, of each group of the primary config, by the group's name."""
        defaults: dict[str, Any] = {}
        for item in _content(self.primary_file).get("defaults", []):
            if isinstance(item, Mapping):
                defaults |= {str(name).partition("@")[0]: option for name, option in item.items()}
        composed = self._composed.get("hydra.runtime.choices", {})  # a model's file may choose another budget
        return {
            name: option if isinstance(option, list) else composed.get(name, option)
            for name, option in defaults.items()
            if not name.startswith("override ")
        }

    @property
    def yaml(self) -> str:
        """The config composed with `choices`, as YAML; empty if it cannot be composed."""
        composed = {key: value for key, value in self._composed.items() if "." not in key and key != "hydra"}
        return yaml.safe_dump(composed, sort_keys=False) if composed else ""

    @property
    def primary_file(self) -> Path:
        """The file of the primary config."""
        return self.folder / f"{self.primary}.yaml"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The unresolved values of the config composed with `choices`, by dotted key; empty if composing fails."""
        return {key: value for key, value in self._composed.items() if key.partition(".")[0] != "hydra"}

    @property
    def hydra_keys(self) -> list[str]:
        """The dotted keys of Hydra's own part of the config."""
        return [key for key in self._composed if key.startswith("hydra.")]

    @cached_property
    def _composed(self) -> dict[str, Any]:
        running = is_composing()  # Hydra knows the folders of --config-dir then
        context: AbstractContextManager[None] = (
            nullcontext() if running else initialize_config_dir(str(self.folder.resolve()), **hydra_options())
        )
        more = [] if running else _user_folders()
        searched = [f"hydra.searchpath=[{','.join(map(quoted, more))}]"] if more else []
        try:
            with context:
                composed = compose(self.primary, overrides=[*self.choices, *searched], return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError):
            return {}
        return dict(flatten(OmegaConf.to_container(composed, resolve=False)))

    def options_with(self, key: str) -> dict[str, list[str]]:
        """Return the options of groups that set a key: lists of `GROUP=OPTION` by dotted key.

        Args:
            key: a dotted key, or the end of one.
        """
        options: dict[str, list[str]] = {}
        of_hydra = [group for group in self.groups if group.startswith("hydra/")] if key.startswith("hydra.") else []
        for group in of_hydra or sorted(self.own_groups - set(TOP_LEVEL_GROUPS)):
            for option in self.options(group):
                for whole in _keys_of(self.folder / group / f"{option}.yaml", group):
                    if f".{whole}".endswith(f".{key}"):
                        options.setdefault(whole, []).append(f"{group}={option}")
        return options

    def keys_of_group(self, group: str) -> set[str]:
        """Return the dotted keys that the options of a group set; their files are read once."""
        if group not in self._keys_by_group:
            files = [self.folder / group / f"{option}.yaml" for option in self.options(group)]
            self._keys_by_group[group] = {key for file in files for key in _keys_of(file, group)}
        return self._keys_by_group[group]

    @cached_property
    def _keys_by_group(self) -> dict[str, set[str]]:
        return {}


def primary_keys(file: Path) -> set[str]:
    """Return the top-level keys of a primary config, including its groups; none if it cannot be read."""
    return {str(key) for key in _content(file) if key not in ("defaults", "hydra")} | primary_groups(file)


def primary_groups(file: Path) -> set[str]:
    """Return the groups of which a primary config chooses an option; none if it cannot be read."""
    defaults = [next(iter(item)) for item in _content(file).get("defaults", []) if isinstance(item, Mapping)]
    return {str(name).partition("@")[0] for name in defaults if not str(name).startswith("override ")}


def _content(file: Path) -> Mapping[str, Any]:
    """Return the mapping in a YAML file; empty if it cannot be read."""
    try:
        content = yaml.load(file.read_text(), YAML_LOADER)
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, Mapping) else {}


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested mappings by its dotted key, the mappings included; lists are not entered.

    Examples:
        >>> dict(flatten({"model": {"latent_dim": 2}}))
        {'model': {'latent_dim': 2}, 'model.latent_dim': 2}
    """
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from flatten(child, f"{path}.{key}" if path else str(key))


def _keys_of(file: Path, group: str) -> list[str]:
    """Return the dotted keys that a file of a group sets, as they are in the composed config."""
    try:
        text = file.read_text()
        content = yaml.load(text, YAML_LOADER)
    except (OSError, yaml.YAMLError):
        return []
    header = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
    package = header[1] if header else group.replace("/", ".")
    parent = "" if package == "_global_" else package.replace("_group_", group)
    if not isinstance(content, Mapping):
        return []
    skipped = (*SPECIAL_KEYS, "defaults")
    return [key for key, _ in flatten(content, parent) if key.split(".")[-1] not in skipped and key != parent]


def _user_folders() -> list[str]:
    """Return the folders of a user's own configs that `--config-dir` names, as entries of `hydra.searchpath`."""
    folders = [value for argument, value in pairwise(sys.argv[1:]) if argument in ("--config-dir", "-cd")]
    folders += [argument.partition("=")[2] for argument in sys.argv[1:] if argument.startswith("--config-dir=")]
    return [f"file://{Path(folder).resolve()}" for folder in folders]
