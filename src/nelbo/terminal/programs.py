"""How a person starts the commands of nelbo, for hints that can be typed as they stand."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT = PACKAGE.parents[1]
"""The root of the repository, if the package lies in one."""


def program(command: str) -> str:
    """Return what starts a command, in the way in which this process was started.

    Args:
        command: one of those of `nelbo`, such as train, evaluate or draw.

    Returns:
        Such as `nelbo train` for the installed command, `python -m nelbo train`, and in a checkout `python train.py`
        or `python scripts/draw.py`, with paths as they are seen from the current directory.
    """
    started = Path(sys.argv[0])
    if started.name == "__main__.py" and started.resolve().parent == PACKAGE:
        return f"python -m nelbo {command}"
    script = CHECKOUT / ("train.py" if command == "train" else f"scripts/{command}.py")
    if started.name == "nelbo" or not script.is_file():
        return f"nelbo {command}"
    return f"python {shlex.quote(os.path.relpath(script))}"


def own_program() -> str:
    """Return what started this training process: a script of the user's own, or `program("train")`."""
    started = Path(sys.argv[0])
    if started.suffix == ".py" and started.is_file() and PACKAGE not in started.resolve().parents:
        return f"python {shlex.quote(os.path.relpath(started))}"
    return program("train")
