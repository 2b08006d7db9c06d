"""hydra/sweeper=grid: Hydra's own grid, but only of the cells that are not done, and with an account at the end."""

from __future__ import annotations

import sys
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class GridSweeper(BasicSweeper):
    """All pairs of what is swept.

    Args:
        max_batch_size: how many cells to launch together; None for all.
        params: what to sweep beside the command line's overrides, which win.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Run what is missing.

        Raises:
            SweepError: if cells failed.
            SystemExit: if it was told to stop.
        """
        from nelbo.sweeps.sweep import Sweep

        assert self.hydra_context is not None and self.config is not None and self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = [override.get_key_element() for override in overrides if override.is_sweep_override()]
        (jobs,) = self.split_arguments(overrides, None)
        with Sweep(self.config, self.hydra_context, self.launcher, swept, sys.argv) as sweep:
            sweep.run(jobs, self.max_batch_size)
