"""The config of a run as plain containers, and how it was chosen on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from nelbo.config.checks import check
from nelbo.config.keys import TYPED_KEYS, select

GROUPS = {"model": "model", "data": "data", "likelihood": "model.likelihood"}
"""The groups that TensorBoard's hparams tab shows, and where what they choose stands in the config."""


@dataclass(frozen=True)
class Chosen:
    """What the command line says of a run.

    Args:
        overrides: those of the config, as they were typed.
        options: the option of each group, by the group's name; a group that was left out is missing.
        is_cell: whether the run is a cell of a sweep.
    """

    overrides: Sequence[str]
    options: Mapping[str, str]
    is_cell: bool = False

    @classmethod
    def by_hydra(cls) -> Chosen:
        """Return what Hydra knows of the job that runs."""
        config = HydraConfig.get()
        return cls(list(config.overrides.task), dict(config.runtime.choices), config.mode == RunMode.MULTIRUN)

    def run_name(self, folder: Path) -> str:
        """Return the name of a run in loggers: that of its directory, and of the one above unless it is a cell.

        The name of a cell is what was swept, and makes it unique.
        """
        return folder.name if self.is_cell else "/".join(folder.absolute().parts[-2:])

    def hyperparameters(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        """Return what TensorBoard's hparams tab shows: common keys, chosen groups and all other overrides.

        Args:
            plain: the run's config.
        """
        values = {key: select(plain, key) for key in (*TYPED_KEYS, "data.protocol")}
        groups = {
            group: self.options.get(group) or select(plain, f"{place}._target_") for group, place in GROUPS.items()
        }
        typed = {override.lstrip("+~").split("=")[0]: override.partition("=")[2] for override in self.overrides}
        return values | {key: value for key, value in typed.items() if key not in TYPED_KEYS} | groups


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a config as plain containers, checked.

    Raises:
        ConfigError: for a missing value, an interpolation that fails, or a value that cannot be used.
    """
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    check(plain)
    return plain


def resolve_with(config: DictConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with other values at some keys, and at all keys that interpolate these; `config` stays as it is.

    Args:
        config: the composed config.
        values: by dotted key.

    Raises:
        ConfigError: as `resolve` does.
    """
    copy = config.copy()
    with open_dict(copy):
        for key, value in values.items():
            OmegaConf.update(copy, key, value)
    return resolve(copy)
