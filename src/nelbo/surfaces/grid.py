"""The grid of `hydra/sweeper=surface`: the swept values, and the overrides of the one training for all of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hydra.core.override_parser.types import Override, QuotedString, ValueType
from omegaconf import DictConfig, OmegaConf

from nelbo.errors import ConfigError, integer, number
from nelbo.schedules import as_schedule
from nelbo.sweeps import compat
from nelbo.sweeps.cells.values import format_exactly

LATENT_DIM, BETA = "model.latent_dim", "objective.beta"
NAMES = {LATENT_DIM: "latent_dim", BETA: "beta"}
"""The keys that can be swept, and the names of `model.at` for them."""

GROUPS = {LATENT_DIM: ("nesting", "uniform"), BETA: ("rates", "modulated")}
"""The group and the option by which one training covers all values of a key."""

LISTS = (ValueType.SIMPLE_CHOICE_SWEEP, ValueType.CHOICE_SWEEP, ValueType.RANGE_SWEEP)

ONE_EACH = "hydra/sweeper=grid trains a model for each"


@dataclass(frozen=True)
class Grid:
    """The settings of one training.

    Args:
        axes: the swept values in ascending order by name, `latent_dim` first.
        overrides: those of the training, `key=value` each.
        added: those of them that choose options of groups that the user has not chosen, by group.
    """

    axes: dict[str, tuple[float, ...]]
    overrides: list[str]
    added: dict[str, str] = field(default_factory=dict)

    @property
    def without_settings(self) -> list[str]:
        """The overrides without those that were added, and without values of the parts that these add."""
        parts = tuple(f"model.{group}." for group in self.added)
        return [
            override
            for override in self.overrides
            if override not in self.added.values() and not override.lstrip("+~").startswith(parts)
        ]

    @property
    def size(self) -> int:
        """The number of settings."""
        return math.prod(map(len, self.axes.values()))


def read_grid(overrides: Sequence[Override]) -> Grid:
    """Return the grid that overrides describe. Of several of the same key the last one counts.

    Raises:
        ConfigError: if nothing or another key is swept, a value is none that can be trained for, or the training is
            asked to cover one value only.
    """
    last = {
        override.key_or_group if is_axis(override) else override.get_key_element(): override for override in overrides
    }
    swept = {key: override for key, override in last.items() if override.is_sweep_override()}
    for key, override in swept.items():
        if not is_axis(override):
            hint = f"hydra/sweeper=surface takes several values of {LATENT_DIM} and {BETA} only; {ONE_EACH}"
            raise ConfigError(key, typed_value(override), hint, located=True)
    if not swept:
        hint = f"has nothing to sweep; give several values, such as {LATENT_DIM}=2,8,32 {BETA}=0.5,1,4"
        raise ConfigError("hydra/sweeper", "surface", hint, located=True)
    axes = {NAMES[key]: values_of(key, swept[key]) for key in NAMES if key in swept}
    fixed = [override for key, override in last.items() if key not in swept]
    (job,) = compat.combinations(fixed)
    added = {
        group: f"{group}={option}"
        for key, (group, option) in GROUPS.items()
        if key in swept and not is_chosen(group, fixed, key)
    }
    job += added.values()
    if LATENT_DIM in swept:
        job.append(f"{LATENT_DIM}={max(axes[NAMES[LATENT_DIM]])}")
    return Grid(axes, job, added)


def keep_chosen(grid: Grid, choices: Mapping[str, str | None]) -> Grid:
    """Return a grid without added options of groups of which a config, such as an experiment, has chosen another.

    Args:
        grid: the grid.
        choices: the chosen options by group, of what `without_settings` composes.
    """
    added = {group: override for group, override in grid.added.items() if choices.get(group) in (None, "none")}
    dropped = set(grid.added.values()) - set(added.values())
    return replace(grid, overrides=[override for override in grid.overrides if override not in dropped], added=added)


def is_axis(override: Override) -> bool:
    """Return whether the key of an override is one of those that can be swept."""
    return override.package is None and override.key_or_group in NAMES


def typed_value(override: Override) -> str:
    """Return the value of an override as it was typed."""
    return str(override.input_line).partition("=")[2]


def values_of(key: str, override: Override) -> tuple[float, ...]:
    """Return the values of a swept key in ascending order.

    Raises:
        ConfigError: if it is not swept over numbers that can be trained for.
    """
    values = list(override.sweep_iterator()) if override.value_type in LISTS else []
    if not values:
        raise ConfigError(key, typed_value(override), f"must be a list of numbers; {ONE_EACH}", located=True)
    texts = [value.text if isinstance(value, QuotedString) else value for value in values]
    if key == LATENT_DIM:
        return tuple(sorted({integer(key, value, minimum=1) for value in texts}))
    return tuple(sorted({number(key, value, positive=True) for value in texts}))


def is_chosen(group: str, fixed: Sequence[Override], key: str) -> bool:
    """Return whether the user has chosen an option of a group.

    Args:
        group: the group by which one training covers all values of a key.
        fixed: the overrides that are not swept.
        key: the key.

    Raises:
        ConfigError: if the option is none, with which it covers one value.
    """
    chosen = [override for override in fixed if override.key_or_group == group]
    for override in chosen:
        if override.is_delete() or override.value() == "none":
            hint = f"is for one value of {key}, which has several; leave {group}=none out, or {ONE_EACH}"
            raise ConfigError(group, "none", hint, located=True)
    return bool(chosen)


def complete(grid: Grid, config: DictConfig) -> list[str]:
    """Return the overrides of the training, with an interval of betas that contains the grid.

    Args:
        grid: the grid.
        config: what its overrides compose.

    Raises:
        ConfigError: if the interval was typed and is too small, or the config multiplies the swept betas.
    """
    if NAMES[BETA] not in grid.axes:
        return grid.overrides
    refuse_weight(config)
    typed = {override.partition("=")[0].lstrip("+~") for override in grid.overrides}
    betas = grid.axes[NAMES[BETA]]
    wider = []
    for end, beta, is_outside in (("lowest", betas[0], operator.lt), ("highest", betas[-1], operator.gt)):
        key = f"model.rates.{end}"
        value = OmegaConf.select(config, key)
        if value is None or not is_outside(beta, number(key, value, positive=True)):
            continue
        if key in typed:
            raise ConfigError(key, value, f"{BETA}={format_exactly(beta)} lies outside; leave it out, or widen it")
        wider.append(f"{key}={format_exactly(beta)}")
    return [*grid.overrides, *wider]


def refuse_weight(config: DictConfig) -> None:
    """Refuse a config whose weight of the KL would multiply the swept betas; a warm-up that ends at 1 may stay.

    An objective without such a weight is left to the training, which refuses it by its name.

    Raises:
        ConfigError: if it would.
    """
    value = OmegaConf.select(config, BETA)
    if value is None:
        return
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    if as_schedule(BETA, plain, minimum=0)(math.inf) != 1:
        hint = "is set by a config and would multiply the swept values; with these it must be 1, or end at 1"
        raise ConfigError(BETA, plain, hint, located=True)
