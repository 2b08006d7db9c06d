"""Train a variational autoencoder: `python train.py model=conv_vae data=mnist`; `--help` shows the options."""

from nelbo.commands.train import main

if __name__ == "__main__":
    main()
