"""Runs train.py many times, each in a fork of a process that has imported everything: `python -m tests.forks JSON`.

The JSON maps a name to overrides; what NAME said and its exit status go to NAME.log and NAME.status in the directory
that is the second argument.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from pathlib import Path

import nelbo.run  # noqa: F401  # imported once, for all


def child(overrides: list[str], log: Path) -> int:
    """Become a run of train.py that writes to `log`."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(target, stream)
    sys.argv = ["train.py", *overrides]
    try:
        runpy.run_path("train.py", run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    folder = Path(sys.argv[2])
    for name, overrides in json.loads(sys.argv[1]).items():
        process = os.fork()
        if process == 0:
            status = child(overrides, folder / f"{name}.log")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        (folder / f"{name}.status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])))


if __name__ == "__main__":
    main()
