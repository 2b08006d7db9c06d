"""What a run logged after the checkpoint that it goes on from is taken back, so that its curves have no tooth.

A checkpoint says how long the run's logs were when it was written. Neither steps nor times would do: a validation that
is run again logs at the step of the last training batch, and clocks are set back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nelbo.files import atomic

EVENTS = "events.out.tfevents."
TABLES = ("history.csv", "kl_per_unit.csv", "csv/metrics.csv")

Lengths = Mapping[str, Any]
"""Of tables by name, in lines; of the TensorBoard files of each folder, in the order of their names, in bytes."""


def lengths(folder: Path) -> dict[str, Any]:
    """How long the logs of a run are, once its loggers have written what they hold."""
    tables: dict[str, Any] = {name: len(_lines(folder / name)) for name in TABLES if (folder / name).exists()}
    places = sorted({file.parent for file in folder.rglob(f"{EVENTS}*")})
    return tables | {
        place.relative_to(folder).as_posix(): [file.stat().st_size for file in _events(place)] for place in places
    }


def rewind(folder: Path, were: Lengths) -> None:
    """Make logs as long as they were; what did not exist then goes."""
    for name in TABLES:
        rewind_table(folder / name, were.get(name, 0))
    for place in {file.parent for file in folder.rglob(f"{EVENTS}*")}:
        rewind_events(place, were.get(place.relative_to(folder).as_posix(), []))


def rewind_table(file: Path, lines: int) -> None:
    """Keep the first lines.

    Not bytes: a table whose columns grew was written anew.
    """
    if not file.exists():
        return
    if not lines:
        file.unlink()
        return
    with atomic(file) as whole:
        whole.writelines(_lines(file)[:lines])


def rewind_events(place: Path, sizes: list[int]) -> None:
    """Keep so many bytes of the first files, under names that come before those of the run that goes on.

    TensorBoard reads the files of a directory in the order of their names, which begin with the time: a clock that was
    set back meanwhile must not turn the order round.
    """
    for number, file in enumerate(_events(place)):
        if number >= len(sizes):
            file.unlink()
            continue
        if file.stat().st_size > sizes[number]:
            os.truncate(file, sizes[number])
        origin = file.name.removeprefix(EVENTS).partition(".")[2]
        file.rename(place / f"{EVENTS}{number:010d}.{origin}")


def _events(place: Path) -> list[Path]:
    return sorted(place.glob(f"{EVENTS}*"))


def _lines(file: Path) -> list[bytes]:
    with file.open("rb") as stream:
        return stream.readlines()
