"""Rows of papers, trained, evaluated and compared: `python scripts/reproduce.py row=burda2016_vae_short`."""

from nelbo.commands.reproduce import main

if __name__ == "__main__":
    main()
