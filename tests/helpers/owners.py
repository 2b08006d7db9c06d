"""Directories that a process on another machine owns."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

from nelbo.directories.owner import Owner

ELSEWHERE = Owner(host="node7", pid=4711, machine="another kernel", since=1.0)


def owned_elsewhere(folder: Path, name: str, seconds_ago: float = 0.0) -> Path:
    """Write the files of a directory whose owner is a process on another machine, and return that of the owner.

    Its lock is not visible on this machine.
    """
    (folder / f"{name}.lock").touch()
    file = folder / f"{name}.owner"
    file.write_text(json.dumps(dataclasses.asdict(ELSEWHERE)))
    os.utime(file, (time.time() - seconds_ago,) * 2)
    return file
