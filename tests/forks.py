"""Runs a script often, each time in a fork of one process that imported all: `python -m tests.forks JSON DIR SCRIPT`.

The JSON maps a name to arguments; DIR gets NAME.out, NAME.err and NAME.status.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import python


@dataclass(frozen=True)
class Done:
    """What a run said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def train_all(runs: Mapping[str, list[str]], folder: Path, script: str = "train.py") -> dict[str, Done]:
    """Run all of them, one after another."""
    driver = python("-m", "tests.forks", json.dumps(runs), str(folder), script)
    assert driver.returncode == 0, driver.stderr
    return {
        name: Done(
            int((folder / f"{name}.status").read_text()),
            (folder / f"{name}.out").read_text(),
            (folder / f"{name}.err").read_text(),
        )
        for name in runs
    }


def become(script: str, overrides: list[str], out: Path, err: Path) -> int:
    """Be a run of a script, as a shell would start it with its output sent to files."""
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    sys.argv = [script, *overrides]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    import nelbo.run  # once, for all
    import nelbo.runs.evaluate  # noqa: F401

    folder = Path(sys.argv[2])
    for name, overrides in json.loads(sys.argv[1]).items():
        process = os.fork()
        if process == 0:
            status = become(sys.argv[3], overrides, folder / f"{name}.out", folder / f"{name}.err")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        (folder / f"{name}.status").write_text(str(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])))


if __name__ == "__main__":
    main()
