"""`nelbo evaluate`: how good a trained model is, and how certain the figures are."""

from __future__ import annotations

import sys

from omegaconf import DictConfig, OmegaConf

from nelbo.commands.hydra_command import hydra_command
from nelbo.finished.arguments import add_keys, quote_runs


def task(config: DictConfig) -> None:
    """Measure what a composed config asks for."""
    from nelbo.finished.evaluate import evaluate  # seconds to import, which --help and most errors do without

    evaluate(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]


def main() -> None:
    """Read the command line and measure."""
    sys.argv[1:] = quote_runs(add_keys(sys.argv[1:]))
    hydra_command("evaluate", task)()


if __name__ == "__main__":
    main()
