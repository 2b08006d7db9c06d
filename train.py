"""Train a variational autoencoder: `python train.py model=conv_vae data=mnist`; `--help` says what else there is."""

from omegaconf import DictConfig

from nelbo.commands.main import command


@command(config_path="conf", config_name="config")
def main(config: DictConfig) -> float:
    """Run what the config says."""
    from nelbo.running.fit import run  # seconds to import, and --help needs none of it

    return run(config)


if __name__ == "__main__":
    main()
