"""`nelbo report`: the report of a sweep, also of one that still runs or was cut off."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nelbo.commands.parser import Parser, boolean, fail, prepared
from nelbo.errors import ConfigError, NelboError, integer
from nelbo.finished.arguments import packages

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_REPORTS = 60.0
INTERRUPTED = 130
"""The exit status of a shell's command that Ctrl-C ended."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "report",
        "sweep=DIRECTORY [watch=true] [with=RUN] [allow_targets=[PACKAGE.,...]] | run=DIRECTORY [limit=N]",
        "Write the report of a sweep into its directory: results.csv, results.json, report.html and figures.\n"
        "The sweep may still run, or have been cut off. With run=, write that of the settings of one run, which was\n"
        "trained for many (rates=many, nesting=uniform), into its folder `surface`.",
    )
    made.key("sweep", "DIRECTORY", "the directory of the sweep", default="")
    made.path_key("sweep")
    made.key("run", "DIRECTORY", "the directory of a run that was trained for many settings", default="")
    made.key("with", "RUN", "such a run, whose curves and regrets are shown beside the sweep's cells", default="")
    made.key("limit", "N", "measure so many images for run= or with=, or `null` for all", default="")
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


def write_settings(run: str, limit: str, allow: Sequence[str]) -> Path:
    """Write the report of the settings of a run.

    Returns:
        The page.
    """
    from nelbo.finished.run import FinishedRun
    from nelbo.surfaces.write import MOST_IMAGES, write_surface

    return write_surface(FinishedRun.open(run, allow, key="run"), limit=image_limit(limit, MOST_IMAGES))


def write_beside(sweep: Path, run: str, limit: str, allow: Sequence[str]) -> None:
    """Compare a run that was trained for many settings with the cells of a sweep, for the report."""
    from nelbo.finished.run import FinishedRun
    from nelbo.surfaces.compare import write_beside

    write_beside(sweep, FinishedRun.open(run, allow, key="with"), allow, limit=image_limit(limit, None))


def image_limit(typed: str, default: int | None) -> int | None:
    """Return the largest number of images, as it was typed.

    Raises:
        ConfigError: if it is not a whole number from 2, or null.
    """
    if not typed:
        return default
    if typed == "null":
        return None
    return integer("limit", int(typed) if typed.isdecimal() else typed, minimum=2)


def check(values: argparse.Namespace, usage: str) -> None:
    """Check that the arguments go together.

    Raises:
        NelboError: if they do not.
    """
    if bool(values.sweep) == bool(values.run):
        raise NelboError(f"give sweep=... or run=...; {usage}" if values.run else usage)
    beside = getattr(values, "with")
    if values.run and (beside or values.watch):
        raise NelboError(f"{'with' if beside else 'watch'}: goes with sweep=... only; {usage}")
    if values.limit and values.sweep and not beside:
        raise ConfigError("limit", values.limit, "goes with run=... and with=... only", located=True)


def main() -> None:
    """Read the command line and write the report; bad arguments end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nelbo.sweeps.live").setLevel(logging.INFO)
    arguments = prepared()
    try:
        made = parser()
        values, _ = made.read(arguments)
        check(values, f"usage: {made.usage}")
        allow = packages(values.allow_targets)
        if values.run:
            print(f"report: {write_settings(values.run, values.limit, allow)}")
            return
        from nelbo.sweeps.report.write import say_best, write_report  # seconds to import, which --help does without

        sweep = Path(values.sweep)
        if getattr(values, "with"):
            write_beside(sweep, getattr(values, "with"), values.limit, allow)
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
