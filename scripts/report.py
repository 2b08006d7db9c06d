"""The report of a sweep, also of one that runs or was cut off: results.csv, results.json, report.html and figures.

python scripts/report.py sweep=outputs/multirun/...
python scripts/report.py sweep=outputs/multirun/... watch=true     the live table, and the report anew every minute
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from nelbo.cli import USAGE_ERROR
from nelbo.errors import NelboError
from nelbo.messages.words import forgotten_key, print_help
from nelbo.sweeps.live import LiveTable
from nelbo.sweeps.report import write_report

USAGE = "usage: python scripts/report.py sweep=DIRECTORY [watch=true]"
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_REPORTS = 60.0
INTERRUPTED = 130


def watch(sweep: Path) -> Path:
    """Follow a sweep until all of its cells have ended; where the last report is."""
    with LiveTable(sweep) as table:
        written = time.monotonic()
        write_report(sweep)
        while table.count("running") + table.count("pending"):
            time.sleep(SECONDS_BETWEEN_LOOKS)
            table.refresh()
            if time.monotonic() - written > SECONDS_BETWEEN_REPORTS:
                write_report(sweep)
                written = time.monotonic()
    return write_report(sweep)


def main(typed: list[str]) -> None:
    """Read `key=value` arguments; bad ones end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nelbo.sweeps.live").setLevel(logging.INFO)
    print_help(typed, __doc__)
    given = dict(argument.removeprefix("--").partition("=")[::2] for argument in typed)
    try:
        if not given.get("sweep") or set(given) - {"sweep", "watch"}:
            raise NelboError(forgotten_key("sweep", typed) + USAGE)
        if (watched := given.get("watch", "false")) not in ("", "true", "false"):
            raise NelboError(f"watch={watched}: must be true or false")
        sweep = Path(given["sweep"])
        print(f"report: {write_report(sweep) if watched == 'false' else watch(sweep)}")
    except NelboError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
