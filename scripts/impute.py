"""A table with its missing values filled in: `python scripts/impute.py run=DIR data.path=FILE out=FILE`."""

from nelbo.commands.impute import main

if __name__ == "__main__":
    main()
