"""Interfaces of Hydra and OmegaConf that are private, or that differ between Hydra 1.3 and 1.4.

This is the only module of `messages`, `composing`, `commands` and `running` that depends on them.
`tests/composing/test_compat.py` checks each against the installed libraries.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
import omegaconf
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict


def hydra_options() -> dict[str, str]:
    """Return the options by version of `hydra.main` and `initialize_config_dir`.

    Hydra 1.3 asks for a `version_base`; 1.4 warns where one is given.
    """
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def main_options(may_instantiate: Sequence[str]) -> dict[str, Any]:
    """Return the options by version of `hydra.main`.

    Args:
        may_instantiate: targets that Hydra itself may instantiate. Hydra 1.4 requires this list; 1.3 has no such
            option.
    """
    options: dict[str, Any] = dict(hydra_options())
    return options or {"execution_whitelist": tuple(may_instantiate)}


def parse_override(argument: str) -> Any:
    """Return an argument as Hydra's grammar reads it; None if it is invalid.

    Args:
        argument: such as `model.latent_dim=2,8`.

    Returns:
        An `Override` of `hydra.core.override_parser.types`, of which only `key_or_group` and `value()` are used.
    """
    try:
        return OverridesParser.create().parse_override(argument)
    except (HydraException, ValueError):
        return None


def sweep_values(value: object) -> list[Any] | None:
    """Return the values of a choice sweep, such as `2,8`, as `parse_override` reads it; None for any other value."""
    return list(value.list) if isinstance(value, ChoiceSweep) else None


def check_options(arguments: Sequence[str], refuse: Callable[[str], NoReturn]) -> None:
    """Parse a command line with Hydra's own argparse parser.

    Args:
        arguments: the command line.
        refuse: called with the message of argparse for an unknown option or one that is misused; must raise.
    """
    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign, assignment] # the original prints eight lines and exits
    # As Hydra does: 1.4 accepts options between overrides.
    parse = parser.parse_args if hydra_options() else parser.parse_intermixed_args
    parse(list(arguments), namespace=argparse.Namespace())


def is_composing() -> bool:
    """Return whether Hydra is running in this process and knows the folders of the configs."""
    return bool(GlobalHydra.instance().is_initialized())


def compose_again(config_name: str | None, arguments: Sequence[str]) -> DictConfig:
    """Return the config of a single run with other arguments, from the folders that the running Hydra knows.

    Args:
        config_name: the name of the primary config.
        arguments: the overrides.

    Returns:
        The config, without `hydra`.

    Raises:
        HydraException: if it cannot be composed.
    """
    loader = GlobalHydra.instance().config_loader()
    config = loader.load_configuration(config_name, list(arguments), RunMode.RUN)
    with open_dict(config):
        del config["hydra"]
    return config


def register_resolver(name: str, function: Callable[..., Any], *, use_cache: bool = False) -> None:
    """Register a function that configs call as `${name:...}`, in place of an earlier one of that name.

    Args:
        name: the name.
        function: the function.
        use_cache: whether the result is kept for the rest of the config's life.
    """
    is_old = omegaconf.__version__.startswith("2.3.")  # OmegaConf 2.4 renamed the function
    register = OmegaConf.register_new_resolver if is_old else OmegaConf.register_resolver
    register(name, function, use_cache=use_cache, replace=True)
