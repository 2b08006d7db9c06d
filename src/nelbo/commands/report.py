"""`nelbo report`: the report of a sweep, also of one that still runs or was cut off."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from nelbo.commands.parser import Parser, boolean, fail, prepared
from nelbo.errors import ConfigError, NelboError, first_line, integer
from nelbo.finished.arguments import DATA, packages

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_REPORTS = 60.0
INTERRUPTED = 130
"""The exit status of a shell's command that Ctrl-C ended."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "report",
        "sweep=DIRECTORY [watch=true] [with=RUN] [allow_targets=[PACKAGE.,...]] | run=DIRECTORY [limit=N] "
        "[data.root=NEW]",
        "Write the report of a sweep into its directory: results.csv, results.json, report.html and figures.\n"
        "The sweep may still run, or have been cut off. With run=, write that of the settings of one run, which was\n"
        "trained for many (rates=many, nesting=uniform), into its folder `surface`.",
        "If the data of run= or with= were moved, data.root=NEW, data.path=NEW, ... give their location.",
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


@contextlib.contextmanager
def writes(key: str, folder: str | Path) -> Iterator[None]:
    """Turn an error of the disk into one about the argument that names the directory to write.

    Args:
        key: the argument.
        folder: the directory.

    Raises:
        ConfigError: if it cannot be written.
    """
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        hint = f"cannot be written: {error.strerror or first_line(error)}{place}"
        raise ConfigError(key, folder, hint, located=True) from error


def write_settings(run: str, limit: str, allow: Sequence[str], moved: Mapping[str, str]) -> Path:
    """Write the report of the settings of a run.

    Args:
        run: its directory.
        limit: the largest number of images, as it was typed.
        allow: packages of the user's own that model and data may be made of.
        moved: new options of the data's source by name, if the data were moved.

    Returns:
        The page.

    Raises:
        ConfigError: if the directory cannot be written.
    """
    from nelbo.finished.run import FinishedRun
    from nelbo.surfaces.write import MOST_IMAGES, write_surface

    most = image_limit(limit, MOST_IMAGES)
    opened = FinishedRun.open(run, allow, moved or None, key="run")
    with writes("run", run):
        return write_surface(opened, limit=most)


def write_beside(sweep: Path, run: str, limit: str, allow: Sequence[str], moved: Mapping[str, str]) -> None:
    """Compare a run that was trained for many settings with the cells of a sweep, for the report.

    Args:
        sweep: the directory of the sweep.
        run: that of the run.
        limit: the largest number of images, as it was typed.
        allow: packages of the user's own that models and data may be made of.
        moved: new options of the source of the run's data by name, if the data were moved.

    Raises:
        ConfigError: if the directory of the sweep cannot be written.
    """
    from nelbo.finished.run import FinishedRun
    from nelbo.surfaces.compare import write_beside

    most = image_limit(limit, None)
    opened = FinishedRun.open(run, allow, moved or None, key="with")
    with writes("sweep", sweep):
        write_beside(sweep, opened, allow, limit=most)


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


def check(values: argparse.Namespace, data: Mapping[str, str], usage: str) -> None:
    """Check that the arguments go together.

    Args:
        values: the arguments.
        data: those that begin with `data.`.
        usage: how the command is used.

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
    if data and values.sweep and not beside:
        key, value = next(iter(data.items()))
        raise ConfigError(key, value, "goes with run=... and with=... only", located=True)


def main() -> None:
    """Read the command line and write the report; bad arguments end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nelbo.sweeps.live").setLevel(logging.INFO)
    arguments = prepared()
    try:
        made = parser()
        values, data = made.read(arguments, others=DATA)
        check(values, data, f"usage: {made.usage}")
        moved = {key.removeprefix(DATA): value for key, value in data.items()}
        allow = packages(values.allow_targets)
        if values.run:
            print(f"report: {write_settings(values.run, values.limit, allow, moved)}")
            return
        from nelbo.sweeps.report.write import say_best, write_report  # seconds to import, which --help does without

        sweep = Path(values.sweep)
        if getattr(values, "with"):
            write_beside(sweep, getattr(values, "with"), values.limit, allow, moved)
        with writes("sweep", sweep):
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
