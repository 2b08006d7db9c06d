"""One setting of a model as an ordinary one: `python scripts/fold.py run=DIR at.beta=0.5 at.latent_dim=8 out=FILE`."""

from nelbo.commands.fold import main

if __name__ == "__main__":
    main()
