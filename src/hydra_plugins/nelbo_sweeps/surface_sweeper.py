"""The sweeper of `hydra/sweeper=surface`: a grid of numbers of latents and betas from one training."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from nelbo.sweeps.sweeper_options import refuse_options


class SurfaceSweeper(Sweeper):
    """Trains one model for all swept values, unless that is done already, and measures it at each.

    Args:
        params: the values to sweep by key; overrides of the command line take precedence.
        **others: options of another sweeper, such as those of a search, which `setup` refuses.
    """

    def __init__(self, params: DictConfig | None, **others: Any) -> None:
        self.params, self.others = params, others

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the config and its context, and create the launcher, for jobs in the folder of the training.

        Raises:
            ConfigError: if the config has options of another sweeper.
        """
        from nelbo.surfaces.sweep import in_training_folder

        refuse_options("surface", self.others)

        self.hydra_context, self.config = hydra_context, config
        self.training_config = in_training_folder(config)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=self.training_config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Train the model if it is not trained yet, and write its results at all combinations of the swept values.

        Args:
            arguments: the overrides of the command line.

        Raises:
            ConfigError: if other keys are swept, or the directory holds something else.
            SweepError: if the training failed.
            SystemExit: if the process received a signal to stop.
        """
        from nelbo.surfaces.sweep import sweep_surface

        assert self.hydra_context is not None and self.config is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key!s}={value}" for key, value in (self.params or {}).items()]
        overrides = parser.parse_overrides([*params, *arguments])
        sweep_surface(self.config, self.training_config, self.hydra_context, self.launcher, overrides, sys.argv)
