"""`nelbo train`: train a variational autoencoder, or many in a sweep."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nelbo.commands.hydra_command import hydra_command
from nelbo.errors import ConfigError
from nelbo.messages.shell import for_shell
from nelbo.running.settings import resolve
from nelbo.terminal.programs import program

log = logging.getLogger(__name__)


def task(config: DictConfig) -> float:
    """Run what a composed config describes.

    Returns:
        The validation score of the best checkpoint, which a search minimises.
    """
    if HydraConfig.get().mode == RunMode.RUN:  # a sweep's process has imported everything already
        plain = resolve(config)  # errors of the config alone need no torch, whose import takes seconds
    from nelbo.running.run import run

    value = run(config)
    if HydraConfig.get().mode == RunMode.RUN and is_for_many_settings(plain):
        write_settings(Path(HydraConfig.get().runtime.output_dir), plain["allow_targets"] or ())
    return value


def is_for_many_settings(plain: Mapping[str, Any]) -> bool:
    """Return whether a run may train one model for many settings.

    A model of the user's own may have parameters of these names, which `write_settings` finds out.

    Args:
        plain: its config.
    """
    return any(plain["model"].get(part) for part in ("rates", "nesting"))


def write_settings(folder: Path, allow: Sequence[str]) -> None:
    """Write the report of the settings of a run, unless it is of this checkpoint already, or there are no settings.

    Of several processes, the first does.

    Args:
        folder: the directory of the run.
        allow: packages of the user's own that model and data may be made of.

    Raises:
        SystemExit: if the process received a signal to stop.
    """
    from nelbo.training.compat import process_rank

    if process_rank():
        return
    from nelbo.sweeps.waiting import exit_on_signals

    hint = f"the run is complete; {program('report')} {for_shell(f'run={folder}')} writes its settings"
    with exit_on_signals(lambda: hint):
        from nelbo.finished.run import FinishedRun
        from nelbo.surfaces.measured import check_run
        from nelbo.surfaces.write import FOLDER, is_complete, write_surface

        run = FinishedRun.open(folder, allow)
        try:
            check_run(run)
        except ConfigError:  # a model of the user's own, whose `rates` or `nesting` mean something else
            return
        if not is_complete(folder / FOLDER, run.sha256):
            log.info("measuring the settings that the model was trained for")
            log.info("report: %s", write_surface(run))


def main() -> None:
    """Read the command line and train."""
    hydra_command("config", task)()


if __name__ == "__main__":
    main()
