"""`nelbo train`: train a variational autoencoder, or many in a sweep."""

from __future__ import annotations

from omegaconf import DictConfig

from nelbo.commands.hydra_command import hydra_command


def task(config: DictConfig) -> float:
    """Run what a composed config describes.

    Returns:
        The validation score of the best checkpoint, which a search minimises.
    """
    from nelbo.running.run import run  # seconds to import, which --help and most errors do without

    return run(config)


def main() -> None:
    """Read the command line and train."""
    hydra_command("config", task)()


if __name__ == "__main__":
    main()
