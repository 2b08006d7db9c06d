"""`nelbo reproduce`: train and evaluate a row of a paper, and compare and record what it gives."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.suggestions import did_you_mean, suggestions
from nelbo.papers.rows import ROWS, Row
from nelbo.terminal.programs import CHECKOUT, program

LIST = "list"
RECORDS = CHECKOUT / "docs" / "results.json"
RUNS = Path("outputs", "papers")
USAGE = f"{LIST} | row=NAME [seed=N] [threads=N] [limit=N] [num_samples=K] [run=DIRECTORY] [out=FILE]"
LEAST = {"seed": 0, "threads": 1, "limit": 2, "num_samples": 1}
"""The settings that are whole numbers, and the least value of each; one image has no standard error."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "reproduce",
        USAGE,
        "Train a row of a paper, evaluate it as the paper does, and compare and record the result.\n"
        "Training and evaluation are the ordinary commands; the same command continues what was cut off.",
        "A shorter evaluation (limit=, num_samples=) has a record of its own. Rows that end in _short take at most\n"
        "60 minutes of one CPU core to train.",
    )
    made.add_argument("verb", nargs="?", default="", metavar=LIST, help="print all rows")
    made.key("row", "NAME", f"the row, as `{LIST}` prints it", default="")
    made.key("seed", "N", "the seed of training; default: 0")
    made.key("threads", "N", "CPU threads; default: what torch chooses")
    made.key("limit", "N", "evaluate on so many test images; default: all")
    made.key("num_samples", "K", "importance samples per image; default: those of the paper")
    made.key("run", "DIRECTORY", f"the run's directory; default: {RUNS}/NAME")
    made.key("out", "FILE", "the file of the records; default: docs/results.json of the checkout")
    return made


def settings_of(values: argparse.Namespace, row: Row) -> dict[str, int | None]:
    """Return the settings that are whole numbers; None for each that is not given.

    Raises:
        ConfigError: for a value that is none, or that has no meaning for the row.
    """
    settings: dict[str, int | None] = {}
    for key, least in LEAST.items():
        typed = getattr(values, key)
        if typed is not None and (not typed.isdecimal() or int(typed) < least):
            raise ConfigError(key, typed, f"must be a whole number of at least {least}", located=True)
        settings[key] = None if typed is None else int(typed)
    if settings["num_samples"] is not None and not row.num_samples:
        hint = f"{row.name} is compared by its ELBO, which has no importance samples; leave it out"
        raise ConfigError("num_samples", settings["num_samples"], hint, located=True)
    return settings


def chosen(name: str) -> Row:
    """Return the row of a name.

    Raises:
        NelboError: if there is none, with names that may be meant.
    """
    if not name:
        raise NelboError(f"row=... is missing; usage: {program('reproduce')} {USAGE}")
    if name not in ROWS:
        meant = did_you_mean([f"row={other}" for other in suggestions(name, ROWS)])
        raise NelboError(f"row={name}: there is no such row; {meant}{program('reproduce')} {LIST} prints all")
    return ROWS[name]


def records_file(typed: str | None) -> Path:
    """Return the file of the records.

    Raises:
        NelboError: if none is given outside a checkout.
    """
    if typed is None and not RECORDS.is_file():
        raise NelboError("out=... is missing: outside a checkout there is no docs/results.json; give a file: out=FILE")
    return RECORDS if typed is None else Path(typed)


def main() -> None:
    """Read the command line and reproduce; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        values, _ = parser().read(arguments)
        if values.verb not in ("", LIST):
            meant = did_you_mean([f"row={other}" for other in suggestions(values.verb, ROWS)])
            raise NelboError(f"{values.verb}: unknown argument; {meant}usage: {program('reproduce')} {USAGE}")
        from nelbo.papers.reproduce import Ended, print_rows, reproduce  # after --help, which needs none of it

        if values.verb == LIST:
            print_rows(Path(values.out) if values.out else RECORDS)
            return
        row, out = chosen(values.row), records_file(values.out)
        settings = settings_of(values, row)
        seed = f"-seed{settings['seed']}" if settings["seed"] else ""
        folder = Path(values.run) if values.run else RUNS / f"{row.name}{seed}"
        try:
            reproduce(row, folder, out, settings)
            if out == RECORDS:
                print("pages      python scripts/results.py --write puts it into docs/results.md")
        except Ended as ended:
            print(f"error: {ended}", file=sys.stderr)
            sys.exit(ended.status)
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
