"""Hydra's errors about `_target_`s in its own part of the config, as errors of nelbo."""

from __future__ import annotations

import re

from nelbo.config.build import RefusedTarget, import_failed
from nelbo.errors import ConfigError

REFUSED = re.compile(r"Target '([^']+)' is not in the Hydra execution whitelist.*full_key: (\S+)", re.DOTALL)
"""Hydra's message for a target that it may not instantiate."""

NOT_IMPORTABLE = re.compile(r"Error locating target '([^']+)'.*full_key: (\S+).*No module named '([^']+)'", re.DOTALL)
"""Hydra's message for a target whose module does not exist."""

UNKNOWN_PLUGIN = "Unknown plugin class"
"""How Hydra's RuntimeError begins if a launcher or a sweeper cannot be imported."""

PLUGINS = {
    "submitit_launcher": "hydra-submitit-launcher>=1.4.0rc3",
    "ray_launcher": "hydra-ray-launcher>=1.4.0rc3",
    "optuna_sweeper": "hydra-optuna-sweeper>=1.4.0rc3",
}
"""The package that a launcher or a sweeper of `conf` needs, by a part of the name of its module."""


def explain_target(message: str) -> str:
    """Return Hydra's message about a target as one line of nelbo; empty for any other message."""
    if refused := REFUSED.search(message):
        return str(RefusedTarget(f"{refused[2]}._target_", refused[1]))
    if missing := NOT_IMPORTABLE.search(message):
        name, key, module = missing.groups()
        hint = import_failed(name, ModuleNotFoundError(f"No module named '{module}'", name=module))
        return str(ConfigError(f"{key}._target_", name, hint))
    return ""


def of_a_plugin(message: str) -> str:
    """Return Hydra's message about a launcher or a sweeper that it cannot import, with the package to install."""
    for part, package in PLUGINS.items():
        if part in message:
            return f"{message}: it needs a package: pip install '{package}'"
    return f"{message}: it needs the package that contains this class"
