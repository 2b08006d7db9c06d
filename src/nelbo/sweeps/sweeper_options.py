"""Options that a sweeper does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import ConfigError


def refuse_options(sweeper: str, others: Mapping[str, Any]) -> None:
    """Refuse options that a sweeper does not have.

    Args:
        sweeper: its name in the group `hydra/sweeper`.
        others: the options by name.

    Raises:
        ConfigError: for the first of them.
    """
    for name, value in others.items():
        hint = f"hydra/sweeper={sweeper} has no such option; those of a search need hydra/sweeper=optuna"
        raise ConfigError(f"hydra.sweeper.{name}", value, hint, located=True)
