"""What of a user's own packages Hydra itself may make: its callbacks and the handlers of its logging."""

from __future__ import annotations

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from nelbo.config.build import user_prefixes
from nelbo.sweeps import compat


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
        if allowed:
            compat.allow_instantiation(allowed)
