"""What of a user's own packages Hydra itself may make: its callbacks and the handlers of its logging."""

from __future__ import annotations

import re

import hydra.utils
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from nelbo.build import RefusedTarget, import_failed, user_prefixes
from nelbo.errors import ConfigError

REFUSED = re.compile(r"Target '([^']+)' is not in the Hydra execution whitelist.*full_key: (\S+)", re.DOTALL)
NOT_THERE = re.compile(r"Error locating target '([^']+)'.*full_key: (\S+).*No module named '([^']+)'", re.DOTALL)
"""How Hydra says that it may not, or cannot, make an object of its own section of the config."""


class AllowTargets(Callback):
    """Lets Hydra make objects of the packages in `allow_targets`.

    Hydra makes its callbacks in the order of the config, so this one has to be the first of them. Hydra 1.3 has no list
    of what it may make, only one of what it refuses: there is nothing to add to.

    Args:
        packages: `allow_targets`, such as [mypackage.].

    Raises:
        ConfigError: if it is not a list of packages.
    """

    def __init__(self, packages: object) -> None:
        plain = OmegaConf.to_container(packages) if OmegaConf.is_config(packages) else packages
        allowed = [f"{prefix}*" for prefix in user_prefixes("allow_targets", plain)]
        if allowed and hasattr(hydra.utils, "execution_whitelist"):
            # Until the end of `hydra.main`, which puts back the list that was there before it.
            hydra.utils.execution_whitelist(allowed).__enter__()


def message_of_hydra(message: str) -> str:
    """Hydra's message about a target in its section as one of ours; empty for any other message."""
    if refused := REFUSED.search(message):
        return str(RefusedTarget(f"{refused[2]}._target_", refused[1]))
    if missing := NOT_THERE.search(message):
        name, key, module = missing.groups()
        hint = import_failed(name, ModuleNotFoundError(f"No module named '{module}'", name=module))
        return str(ConfigError(f"{key}._target_", name, hint))
    return ""
