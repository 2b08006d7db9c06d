"""A grid from one training: `hydra/sweeper=surface`.

The directory of the sweep holds the results of all settings, as `write_surface` writes them, and a folder with the
training, which is itself a sweep of one cell: it is launched, stopped and resumed as any other.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from nelbo.config.quoting import quoted
from nelbo.errors import ConfigError
from nelbo.files import read_json
from nelbo.running.directory import refuse_files
from nelbo.surfaces.grid import GROUPS, LATENT_DIM, Grid, complete, keep_chosen, read_grid
from nelbo.sweeps.cells.record import PLAN
from nelbo.sweeps.report.origin import ORIGIN, Origin
from nelbo.sweeps.sweep import WRITTEN, Sweep
from nelbo.sweeps.waiting import exit_on_signals

log = logging.getLogger(__name__)

DIRECTORY = "hydra.sweep.dir"

TRAINING = "training"
"""The name of the folder with the training in the directory of the sweep."""

NAMED = (*(group for group, _ in GROUPS.values()), LATENT_DIM, "model.rates.lowest", "model.rates.highest")
"""The keys that the name of the training's own directory contains."""


def in_training_folder(config: DictConfig) -> DictConfig:
    """Return the config of a sweep with the folder of the training as its directory.

    Args:
        config: the composed config of the sweep, which stays as it is.
    """
    folder = str(Path(str(config.hydra.sweep.dir), TRAINING))
    own = copy.deepcopy(config)
    OmegaConf.copy_cache(from_config=config, to_config=own)
    hydra = own.hydra
    others = [override for override in hydra.overrides.hydra if override.partition("=")[0].lstrip("+") != DIRECTORY]
    with read_write(hydra), open_dict(hydra):
        hydra.sweep.dir = folder
        hydra.overrides.hydra = [*others, f"{DIRECTORY}={quoted(folder)}"]
    return own


def sweep_surface(
    config: DictConfig,
    training_config: DictConfig,
    hydra_context: HydraContext,
    launcher: Launcher,
    overrides: Sequence[Override],
    argv: Sequence[str],
) -> None:
    """Train one model for all settings of a grid, unless that is done, and write its results at each.

    Args:
        config: the composed config of the sweep.
        training_config: the same, as `in_training_folder` returns it.
        hydra_context: Hydra's config loader and callbacks.
        launcher: the launcher, which runs jobs in the folder of the training.
        overrides: those of the command line, and of the sweeper's config before them.
        argv: the command line to record, as in `sys.argv`.

    Raises:
        ConfigError: if the overrides are not a grid from one training, or the directory holds something else.
        SweepError: if the training failed, or another sweep is running in the directory.
        SystemExit: if the process received a signal to stop.
    """
    grid = read_grid(overrides)
    home = Path(str(config.hydra.sweep.dir)).absolute()
    refuse_other_content(home)
    with Sweep(training_config, hydra_context, launcher, NAMED, argv, home) as sweep:
        if grid.added:
            grid = keep_chosen(grid, sweep.composition.compose(grid.without_settings).hydra.runtime.choices)
        job = complete(grid, sweep.compose(grid.overrides))
        log.info("one training for %d settings: %s", grid.size, " ".join(job))
        log.info("the results of a setting may differ a little from those of a training of its own")
        if not (home / ORIGIN).exists():
            Origin(run="", checkpoint="", text="").write(home)  # marks the directory until there are results
        sweep.run([job], None)
        (cell,) = sweep.cells()
        with exit_on_signals(sweep.how_to_resume):
            measure(cell.folder, home, grid, list(config.get("allow_targets") or ()), sweep.ownership.touch)


def refuse_other_content(home: Path) -> None:
    """Refuse a directory with results that are not of a grid from one training.

    Raises:
        ConfigError: if it holds some.
    """
    if not (home / ORIGIN).exists():
        if read_json(home / PLAN).get("cells") == {}:  # of a command that was refused before its first cell
            return
        if (home / PLAN).exists():
            raise ConfigError(DIRECTORY, home, "holds a sweep; give another directory", located=True)
        refuse_files(home, WRITTEN, key=DIRECTORY)
    elif not (home / TRAINING / PLAN).exists():
        raise ConfigError(
            DIRECTORY, home, "holds the settings of another training; give another directory", located=True
        )


def measure(folder: Path, home: Path, grid: Grid, allow: Sequence[str], watch: Callable[[], None]) -> None:
    """Write the results of a finished training at the settings of a grid, unless they are there.

    Args:
        folder: the directory of the training.
        home: the directory of the results.
        grid: the grid.
        allow: packages of the user's own that model and data may be made of.
        watch: called at each setting, so that no other machine takes the directory for abandoned.
    """
    from nelbo.finished.run import FinishedRun  # imports torch, which errors of the command line do without
    from nelbo.surfaces.write import is_written, write_surface
    from nelbo.sweeps.report.results_file import CSV
    from nelbo.sweeps.report.write import HTML

    run = FinishedRun.open(folder, allow)
    if is_written(run, home, grid.axes, limit=None):
        log.info("all %d settings are measured", grid.size)
    else:
        log.info("measuring %d settings on all test images", grid.size)
        write_surface(run, home, grid.axes, limit=None, watch=watch)
    log.info("results: %s; page: %s", home / CSV, home / HTML)
