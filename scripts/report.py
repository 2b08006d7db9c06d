"""The report of a sweep: `python scripts/report.py sweep=outputs/multirun/...`."""

from nelbo.commands.report import main

if __name__ == "__main__":
    main()
