"""hydra/sweeper=grid: Hydra's own grid, but only of the cells that are not done, and with an account at the end."""

from __future__ import annotations

import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from nelbo.sweeps import compat


class GridSweeper(Sweeper):
    """All pairs of what is swept.

    Args:
        max_batch_size: how many cells to launch together; None for all.
        params: what to sweep beside the command line's overrides, which win.
    """

    def __init__(self, max_batch_size: int | None, params: DictConfig | None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the config and its context, and make the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is missing.

        Raises:
            SweepError: if cells failed.
            SystemExit: if it was told to stop.
        """
        from nelbo.sweeps.sweep import Sweep

        assert self.hydra_context is not None and self.config is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        in_file = [f"{key!s}={value}" for key, value in (self.params or {}).items()]
        overrides = parser.parse_overrides([*in_file, *arguments])
        swept = [override.get_key_element() for override in overrides if override.is_sweep_override()]
        with Sweep(self.config, self.hydra_context, self.launcher, swept, sys.argv) as sweep:
            sweep.run(compat.combinations(overrides), self.max_batch_size)
