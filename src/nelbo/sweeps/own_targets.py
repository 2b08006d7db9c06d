"""The callback that lets Hydra itself instantiate classes of a user's own packages: callbacks and logging handlers."""

from __future__ import annotations

from hydra.experimental.callback import Callback
from omegaconf import OmegaConf

from nelbo.config.build import user_prefixes
from nelbo.sweeps import compat


class AllowTargets(Callback):
    """Lets Hydra instantiate classes of the packages in `allow_targets`.

    Hydra instantiates its callbacks in the order of the config, so this one has to be the first.

    Args:
        packages: `allow_targets`, such as [mypackage.].

    Raises:
        ConfigError: if it is not a list of packages.
    """

    def __init__(self, packages: object) -> None:
        plain = OmegaConf.to_container(packages) if OmegaConf.is_config(packages) else packages
        patterns = [f"{prefix}*" for prefix in user_prefixes("allow_targets", plain)]
        if patterns:
            compat.allow_instantiation(patterns)
