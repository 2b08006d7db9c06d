"""Rows drawn from a model of tables: `python scripts/sample.py run=DIR rows=1000 out=FILE`."""

from nelbo.commands.sample import main

if __name__ == "__main__":
    main()
