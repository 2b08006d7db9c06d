"""`nelbo report`: the report of a sweep, also of one that still runs or was cut off."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nelbo.commands.parser import Parser, boolean, fail, prepared
from nelbo.errors import NelboError
from nelbo.finished.arguments import packages

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_REPORTS = 60.0
INTERRUPTED = 130
"""The exit status of a shell's command that Ctrl-C ended."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "report",
        "sweep=DIRECTORY [watch=true] [allow_targets=[PACKAGE.,...]]",
        "Write the report of a sweep into its directory: results.csv, results.json, report.html and figures.\n"
        "The sweep may still run, or have been cut off.",
    )
    made.key("sweep", "DIRECTORY", "the directory of the sweep", required=True)
    made.key(
        "watch",
        "true",
        "show a live table, and write the report every minute",
        type=boolean,
        nargs="?",
        const=True,
        default=False,
    )
    made.key("allow_targets", "[PACKAGE.,...]", "packages of your own that the data are made of", default="")
    return made


def watch(sweep: Path, allow: Sequence[str]) -> Path:
    """Follow a sweep until all of its cells have ended.

    Returns:
        The page of the last report.
    """
    from nelbo.sweeps.live import LiveTable
    from nelbo.sweeps.report.write import write_report

    with LiveTable(sweep) as table:
        written = time.monotonic()
        write_report(sweep, allow)
        while table.count("running") + table.count("pending"):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            table.refresh()
            if time.monotonic() - written > SECONDS_BETWEEN_REPORTS:
                write_report(sweep, allow)
                written = time.monotonic()
    return write_report(sweep, allow)


def main() -> None:
    """Read the command line and write the report; bad arguments end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nelbo.sweeps.live").setLevel(logging.INFO)
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        from nelbo.sweeps.report.write import say_best, write_report  # seconds to import, which --help does without

        sweep, allow = Path(values.sweep), packages(values.allow_targets)
        page = watch(sweep, allow) if values.watch else write_report(sweep, allow)
        if line := say_best(sweep):
            print(line)
        print(f"report: {page}")
    except NelboError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
