"""The data sets: `python scripts/data.py list|fetch|show|verify`."""

from nelbo.commands.data import main

if __name__ == "__main__":
    main()
