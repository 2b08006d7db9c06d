"""The sweeper of `hydra/sweeper=grid`: all combinations of the swept values, of which only the missing ones are run."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from nelbo.sweeps import compat
from nelbo.sweeps.sweeper_options import refuse_options


class GridSweeper(Sweeper):
    """Runs a cell for each combination of the swept values, unless the cell is done already.

    Args:
        max_batch_size: the number of cells to launch together; None for all.
        params: the values to sweep by key; overrides of the command line take precedence.
        **others: options of another sweeper, such as those of a search, which `setup` refuses.
    """

    def __init__(self, max_batch_size: int | None, params: DictConfig | None, **others: Any) -> None:
        self.max_batch_size = max_batch_size
        self.params, self.others = params, others

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the config and its context, and create the launcher.

        Raises:
            ConfigError: if the config has options of another sweeper.
        """
        refuse_options("grid", self.others)
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run the cells that are not done.

        Args:
            arguments: the overrides of the command line.

        Raises:
            SweepError: if cells failed.
            SystemExit: if the process received a signal to stop.
        """
        from nelbo.sweeps.sweep import Sweep

        assert self.hydra_context is not None and self.config is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        params = [f"{key!s}={value}" for key, value in (self.params or {}).items()]
        overrides = parser.parse_overrides([*params, *arguments])
        swept = [override.get_key_element() for override in overrides if override.is_sweep_override()]
        with Sweep(self.config, self.hydra_context, self.launcher, swept, sys.argv) as sweep:
            sweep.run(compat.combinations(overrides), self.max_batch_size)
