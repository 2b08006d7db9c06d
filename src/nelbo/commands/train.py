"""`nelbo train`: train a variational autoencoder, or many in a sweep."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from nelbo.commands.hydra_command import hydra_command
from nelbo.running.settings import resolve


def task(config: DictConfig) -> float:
    """Run what a composed config describes.

    Returns:
        The validation score of the best checkpoint, which a search minimises.
    """
    if HydraConfig.get().mode == RunMode.RUN:  # a sweep's process has imported everything already
        resolve(config)  # errors of the config alone need no torch, whose import takes seconds
    from nelbo.running.run import run

    return run(config)


def main() -> None:
    """Read the command line and train."""
    hydra_command("config", task)()


if __name__ == "__main__":
    main()
