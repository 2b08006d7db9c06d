"""Refusals of Hydra to make an object of its own section of the config, as ours."""

from __future__ import annotations

import re

from nelbo.config.build import RefusedTarget, import_failed
from nelbo.errors import ConfigError

REFUSED = re.compile(r"Target '([^']+)' is not in the Hydra execution whitelist.*full_key: (\S+)", re.DOTALL)
NOT_THERE = re.compile(r"Error locating target '([^']+)'.*full_key: (\S+).*No module named '([^']+)'", re.DOTALL)
"""How Hydra says that it may not, or cannot, make an object of its own section of the config."""


def of_a_target(message: str) -> str:
    """Hydra's message about a target in its section of the config as one of ours; empty for any other message."""
    if refused := REFUSED.search(message):
        return str(RefusedTarget(f"{refused[2]}._target_", refused[1]))
    if missing := NOT_THERE.search(message):
        name, key, module = missing.groups()
        hint = import_failed(name, ModuleNotFoundError(f"No module named '{module}'", name=module))
        return str(ConfigError(f"{key}._target_", name, hint))
    return ""
