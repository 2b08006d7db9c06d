"""The groups of the configs and their options: `python scripts/list.py`, `python scripts/list.py model`."""

from nelbo.commands.list import main

if __name__ == "__main__":
    main()
