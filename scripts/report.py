"""The report of a sweep, also of one that runs or was cut off: results.csv, results.json, report.html and figures.

python scripts/report.py sweep=outputs/multirun/...
python scripts/report.py sweep=outputs/multirun/... watch=true     the live table, and the report anew every minute
python scripts/report.py sweep=... allow_targets=[mypackage.]      of data of your own
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nelbo.errors import USAGE_ERROR, NelboError
from nelbo.finished.arguments import packages
from nelbo.messages.words import arguments, print_help
from nelbo.sweeps.live import LiveTable
from nelbo.sweeps.report.write import say_best, write_report
from nelbo.terminal.streams import outlive_readers

USAGE = "usage: python scripts/report.py sweep=DIRECTORY [watch=true] [allow_targets=[PACKAGE.,...]]"
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_REPORTS = 60.0
INTERRUPTED = 130


def watch(sweep: Path, allow: Sequence[str]) -> Path:
    """Follow a sweep until all of its cells have ended; where the last report is."""
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


def main(typed: list[str]) -> None:
    """Read `key=value` arguments; bad ones end in one line and exit status 2."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("nelbo.sweeps.live").setLevel(logging.INFO)
    print_help(typed, __doc__)
    try:
        given = arguments(typed, ["sweep"], ["watch", "allow_targets"], USAGE)
        if (watched := given.get("watch", "false")) not in ("", "true", "false"):
            raise NelboError(f"watch={watched}: must be true or false")
        sweep = Path(given["sweep"])
        allow = packages(given.get("allow_targets", ""))
        page = write_report(sweep, allow) if watched == "false" else watch(sweep, allow)
        if line := say_best(sweep):
            print(line)
        print(f"report: {page}")
    except NelboError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    outlive_readers()
    main(sys.argv[1:])
