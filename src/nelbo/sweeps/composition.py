"""The configs of the jobs of a sweep: Hydra composes each choice of groups once, and values change a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from nelbo.sweeps import compat


class Composition:
    """Composes the configs of jobs.

    Hydra reads and merges some thirty files for each config. Which ones depends on the options of groups alone, so it
    does that once for each choice of options, and the jobs that differ only in values start from a copy.

    Args:
        loader: Hydra's config loader.
        master: the composed config of the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.kept: dict[tuple[str, ...], tuple[list[str], str]] = {}
        self.groups: dict[str, bool] = {}

    def compose(self, job: Sequence[str]) -> DictConfig:
        """Return the config of a job, equal to that of Hydra's `load_sweep_config`.

        Args:
            job: the overrides of the job.

        Raises:
            HydraException: if it cannot be composed.
        """
        overrides = OverridesParser.create().parse_overrides(list(job))
        # The loader does not know the groups below `hydra.searchpath`, and Hydra 1.3 names a job as it composes.
        if (
            not compat.NAMES_ARE_LAZY
            or self.master.hydra.searchpath
            or any(self.needs_hydra(override) for override in overrides)
        ):
            return self.loader.load_sweep_config(self.master, list(job))
        values = [override for override in overrides if not self.is_group(override)]
        choices = tuple(str(override.input_line) for override in overrides if self.is_group(override))
        if choices not in self.bases:
            self.bases[choices] = self.loader.load_sweep_config(self.master, list(choices))
        config = self.copy(self.bases[choices])
        compat.apply_overrides(values, config)
        config.hydra.overrides.task = [override.input_line for override in overrides]
        return config

    def keep(self, job: Sequence[str], directory: str) -> list[str]:
        """Return the overrides of a job in its directory, for its launch, and keep of what they consist.

        Args:
            job: the overrides of the job.
            directory: the override that sets the job's directory.
        """
        launched = [*job, directory]
        self.kept[tuple(launched)] = list(job), directory
        return launched

    def take(self, launched: Sequence[str]) -> DictConfig:
        """Return the config of a job in its directory, equal to that of Hydra's `load_sweep_config`.

        Args:
            launched: the overrides that `keep` returned, or others.
        """
        if tuple(launched) not in self.kept:
            return self.compose(launched)
        job, directory = self.kept.pop(tuple(launched))
        config = self.compose(job)
        (override,) = OverridesParser.create().parse_overrides([directory])
        compat.apply_overrides([override], config)
        config.hydra.overrides.hydra.append(directory)
        return config

    def copy(self, base: DictConfig) -> DictConfig:
        """Return a config of its own, in which `${now:...}` and other resolvers have the sweep's results."""
        config = copy.deepcopy(base)
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        return config

    def is_group(self, override: Override) -> bool:
        """Return whether an override chooses an option of a group."""
        name = override.key_or_group
        if name not in self.groups:
            self.groups[name] = bool(self.loader.get_group_options(name))
        return override.package is not None or self.groups[name]

    @staticmethod
    def needs_hydra(override: Override) -> bool:
        """Return whether an override concerns Hydra itself or has several values, which Hydra checks as it composes."""
        of_hydra = override.key_or_group.split(".")[0].split("/")[0] == "hydra"
        return of_hydra or override.is_sweep_override()
