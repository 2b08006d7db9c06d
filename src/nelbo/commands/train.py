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
from nelbo.running.settings import resolve

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
    """Return whether a run trains one model for many settings.

    Args:
        plain: its config.
    """
    return any(plain["model"].get(part) for part in ("rates", "nesting"))


def write_settings(folder: Path, allow: Sequence[str]) -> None:
    """Write the report of the settings of a run, unless it is of this checkpoint already.

    Of several processes, the first does.

    Args:
        folder: the directory of the run.
        allow: packages of the user's own that model and data may be made of.
    """
    from nelbo.training.compat import process_rank

    if process_rank():
        return
    from nelbo.finished.run import FinishedRun
    from nelbo.surfaces.write import FOLDER, is_complete, write_surface

    run = FinishedRun.open(folder, allow)
    if not is_complete(folder / FOLDER, run.sha256):
        log.info("measuring the settings that the model was trained for")
        log.info("report: %s", write_surface(run))


def main() -> None:
    """Read the command line and train."""
    hydra_command("config", task)()


if __name__ == "__main__":
    main()
