"""The latent space of a finished model on a local page: `python scripts/explore.py run=outputs/...`."""

from nelbo.commands.explore import main

if __name__ == "__main__":
    main()
