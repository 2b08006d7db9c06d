"""How good is a model, and how sure are we: `python scripts/evaluate.py run=outputs/...`; `--help` says the rest."""

import sys

from omegaconf import DictConfig, OmegaConf

from nelbo.commands.main import command
from nelbo.finished.arguments import open_data, quote_runs


@command(config_path="../conf", config_name="evaluate", trains=False)
def main(config: DictConfig) -> None:
    """Measure what the config says."""
    from nelbo.finished.evaluate import evaluate  # seconds to import, and --help needs none of it

    evaluate(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.argv[1:] = quote_runs(open_data(sys.argv[1:]))
    main()
