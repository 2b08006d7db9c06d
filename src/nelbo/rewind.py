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
HISTORY, UNIT_HISTORY = "history.csv", "kl_per_unit.csv"
TABLES = (HISTORY, UNIT_HISTORY, "metrics.csv")
"""The last is a CSV logger's, wherever in the run's directory that writes."""

FOREIGN = (".run", ".lock", "cell.json", "sweep.json")
"""What the directory of another run or sweep holds."""

Lengths = Mapping[str, Any]
"""Of tables by name, in lines; of the TensorBoard files of each folder, in the order of their names, in bytes."""


def lengths(folder: Path) -> dict[str, Any]:
    """How long the logs of a run are, once its loggers have written what they hold."""
    lines = {file.relative_to(folder).as_posix(): len(_lines(file)) for file in tables(folder)}
    sizes = {
        place.relative_to(folder).as_posix(): [file.stat().st_size for file in events]
        for place in own_folders(folder)
        if (events := _events(place))
    }
    return {**lines, **sizes}


def rewind(folder: Path, were: Lengths) -> None:
    """Make logs as long as they were; what did not exist then goes."""
    for file in tables(folder):
        rewind_table(file, were.get(file.relative_to(folder).as_posix(), 0))
    for place in own_folders(folder):
        rewind_events(place, were.get(place.relative_to(folder).as_posix(), []))


def own_folders(folder: Path) -> list[Path]:
    """The directory of a run and the folders below it, without those of other runs that somebody put there."""
    found = [folder]
    for place, names, _ in os.walk(folder):
        names[:] = sorted(
            name for name in names if not any((Path(place, name) / foreign).exists() for foreign in FOREIGN)
        )
        found += [Path(place, name) for name in names]
    return found


def tables(folder: Path) -> list[Path]:
    """The tables that a run has written."""
    return [place / name for place in own_folders(folder) for name in TABLES if (place / name).exists()]


def rewind_table(file: Path, lines: int) -> None:
    """Keep the first lines.

    Not bytes: a table whose columns grew was written anew.
    """
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
