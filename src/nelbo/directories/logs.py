"""What a run logged after the checkpoint that it goes on from is taken back, so that its curves have no tooth.

A checkpoint says how long the run's logs were when it was written. Neither steps nor times would do: a validation that
is run again logs at the step of the last training batch, and clocks are set back.

Only what a checkpoint names, or the run's own list of its logs, is ever cut or removed: other files in the directory
are somebody else's.
"""

from __future__ import annotations

import glob
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nelbo.files import atomic, write_text

EVENTS = "events.out.tfevents."
HISTORY, UNIT_HISTORY = "history.csv", "kl_per_unit.csv"
LIST = ".logs"
"""Says which files of the directory are logs of the run, a pattern a line; written before the first of them is."""

Lengths = Mapping[str, Any]
"""Of logs by name from the run's directory: of tables in lines, of TensorBoard's files in bytes.

Versions before named the folder of the latter instead, with the bytes of the files in it in the order of their names.
"""


def event_patterns(boards: Iterable[str]) -> list[str]:
    """Patterns of what TensorBoard's writers of this process write into these folders of a run.

    What evaluations write there has a suffix.
    """
    origin = f"{glob.escape(socket.gethostname())}.{os.getpid()}"
    numbers = ("[0-9]", "[0-9][0-9]", "[0-9][0-9][0-9]")
    return [f"{glob.escape(board)}/**/{EVENTS}*.{origin}.{number}" for board in boards for number in numbers]


def logs(folder: Path) -> set[Path]:
    """The files of a run's directory that are its logs, by its own list."""
    patterns = (folder / LIST).read_text().splitlines() if (folder / LIST).exists() else []
    return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}


def write_list(folder: Path, names: Iterable[str], patterns: Iterable[str]) -> None:
    """Keep which files are logs: those of these names from the directory, and what will match the patterns."""
    lines = [*(glob.escape(name) for name in names), *patterns]
    write_text(folder / LIST, "".join(f"{line}\n" for line in dict.fromkeys(lines)))


def lengths(folder: Path) -> dict[str, int]:
    """How long the logs of a run are, once its loggers have written what they hold."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size if _is_events(file) else len(_lines(file))
        for file in sorted(logs(folder))
    }


def rewind(folder: Path, were: Lengths, own: Iterable[str] = ()) -> list[str]:
    """Make logs as long as they were; those of the run that did not exist then go.

    Args:
        folder: the run's directory.
        were: how long its logs were.
        own: names of logs besides, of a run that an earlier version began, which kept no list.

    Returns:
        The names of the logs that there are now.
    """
    kept: dict[str, Path] = {}
    for name, place, length in _placed(folder, by_name(folder, were)):
        if _is_events(place):
            if place.stat().st_size > length:
                os.truncate(place, length)
            place = place.rename(folder / name)
        else:
            rewind_table(place, length)
        kept[name] = place
    for file in logs(folder) | {folder / name for name in own if (folder / name).is_file()}:
        if file not in kept.values():
            file.unlink()
    return list(kept)


def unnamed_events(folder: Path, boards: Iterable[str], names: Iterable[str]) -> list[Path]:
    """TensorBoard's files in these folders of a run that are not among `names`."""
    known = {folder / name for name in names}
    return sorted(file for board in boards for file in (folder / board).glob(f"{EVENTS}*") if file not in known)


def by_name(folder: Path, were: Lengths) -> dict[str, int]:
    """The lengths of all logs by name, also where an earlier version wrote them."""
    found: dict[str, int] = {}
    for name, length in were.items():
        if isinstance(length, int):
            found[name] = length
        else:
            files = sorted((folder / name).glob(f"{EVENTS}*"))
            found |= {file.relative_to(folder).as_posix(): size for file, size in zip(files, length, strict=False)}
    return found


def _placed(folder: Path, were: Mapping[str, int]) -> list[tuple[str, Path, int]]:
    """Of each log that there is: the name that it shall have, where it is, and how long it was.

    TensorBoard reads the files of a directory in the order of their names, which begin with the time: a clock that was
    set back meanwhile must not turn the order round. So they get names that come before those of the run that goes on;
    and may have them already, if that was killed before its first checkpoint.
    """
    found, counts = [], dict[Path, int]()
    for name in sorted(were):
        place = shall = folder / name
        if _is_events(place):
            number = counts[place.parent] = counts.get(place.parent, -1) + 1
            origin = place.name.removeprefix(EVENTS).partition(".")[2]
            shall = place.with_name(f"{EVENTS}{number:010d}.{origin}")
            place = place if place.exists() else shall
            shall = place if shall.exists() else shall  # somebody else's
        if place.is_file():
            found.append((shall.relative_to(folder).as_posix(), place, were[name]))
    return found


def rewind_table(file: Path, lines: int) -> None:
    """Keep the first lines.

    Not bytes: a table whose columns grew was written anew.
    """
    with atomic(file) as whole:
        whole.writelines(_lines(file)[:lines])


def _is_events(file: Path) -> bool:
    return file.name.startswith(EVENTS)


def _lines(file: Path) -> list[bytes]:
    with file.open("rb") as stream:
        return stream.readlines()
