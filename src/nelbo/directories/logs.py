"""The log files of a run, and how they are cut back to a checkpoint when the run is resumed.

A run that is resumed repeats the steps after its checkpoint. What it logged there before is removed first, so that
curves do not overlap. A checkpoint therefore stores how long each log was when it was written. Steps or times would not
identify the place: a validation that is repeated logs at the step of the last training batch, and clocks can be set
back.

Only files that a checkpoint names, or the run's own list of logs, are ever cut or removed. Other files in the directory
are left alone.
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
"""Beginning of the name of every file that TensorBoard writes."""

HISTORY, UNIT_HISTORY = "history.csv", "kl_per_unit.csv"

LIST = ".logs"
"""File that lists the run's logs, one glob pattern per line. It is written before the first log is."""

Lengths = Mapping[str, Any]
"""Length of each log: tables in lines, TensorBoard's files in bytes; keys are paths relative to the run's directory.

Earlier versions stored one entry per TensorBoard folder instead: a list with the sizes of its files in bytes, in the
order of their names.
"""


def event_patterns(boards: Iterable[str]) -> list[str]:
    """Return glob patterns of the files that this process's TensorBoard writers create.

    Args:
        boards: folders of the run that TensorBoard writes to. Evaluations write there too, but add a suffix to the
            file's name, which these patterns do not match.
    """
    origin = f"{glob.escape(socket.gethostname())}.{os.getpid()}"
    numbers = ("[0-9]", "[0-9][0-9]", "[0-9][0-9][0-9]")
    return [f"{glob.escape(board)}/**/{EVENTS}*.{origin}.{number}" for board in boards for number in numbers]


def logs(folder: Path) -> set[Path]:
    """Return the log files of a run that exist, according to the list in its directory."""
    patterns = (folder / LIST).read_text().splitlines() if (folder / LIST).exists() else []
    return {file for pattern in patterns for file in folder.glob(pattern) if file.is_file()}


def write_list(folder: Path, names: Iterable[str], patterns: Iterable[str]) -> None:
    """Write the list of the run's logs.

    Args:
        folder: the run's directory.
        names: paths of logs, relative to the directory.
        patterns: glob patterns that logs created later will match.
    """
    lines = [*(glob.escape(name) for name in names), *patterns]
    write_text(folder / LIST, "".join(f"{line}\n" for line in dict.fromkeys(lines)))


def lengths(folder: Path) -> dict[str, int]:
    """Return the current length of each log of a run; its loggers must have flushed their buffers."""
    return {
        file.relative_to(folder).as_posix(): file.stat().st_size if _is_events(file) else len(_lines(file))
        for file in sorted(logs(folder))
    }


def rewind(folder: Path, were: Lengths, own: Iterable[str] = ()) -> list[str]:
    """Cut logs back to their earlier lengths, and remove the run's logs that did not exist then.

    Args:
        folder: the run's directory.
        were: the earlier lengths.
        own: names of further logs, for a run that was started by a version without a list of logs.

    Returns:
        The names of the logs that remain.
    """
    kept: dict[str, Path] = {}
    for name, file, length in _located(folder, by_name(folder, were)):
        if _is_events(file):
            if file.stat().st_size > length:
                os.truncate(file, length)
            file = file.rename(folder / name)
        else:
            rewind_table(file, length)
        kept[name] = file
    for file in logs(folder) | {folder / name for name in own if (folder / name).is_file()}:
        if file not in kept.values():
            file.unlink()
    return list(kept)


def unnamed_events(folder: Path, boards: Iterable[str], names: Iterable[str]) -> list[Path]:
    """Return TensorBoard's files in the folders `boards` of a run, without those in `names`."""
    known = {folder / name for name in names}
    return sorted(file for board in boards for file in (folder / board).glob(f"{EVENTS}*") if file not in known)


def by_name(folder: Path, were: Lengths) -> dict[str, int]:
    """Return one length per log file, also from lengths in the form that earlier versions stored."""
    by_file: dict[str, int] = {}
    for name, length in were.items():
        if isinstance(length, int):
            by_file[name] = length
        else:
            files = sorted((folder / name).glob(f"{EVENTS}*"))
            by_file |= {file.relative_to(folder).as_posix(): size for file, size in zip(files, length, strict=False)}
    return by_file


def _located(folder: Path, were: Mapping[str, int]) -> list[tuple[str, Path, int]]:
    """Return, for each log that exists, its new name, its current path and its earlier length.

    TensorBoard reads the files of a directory in the order of their names, which begin with a time. If the clock was
    set back in between, files of the resumed run could sort before earlier ones. Earlier files are therefore renamed to
    a running number in place of the time. They already have these names if a resumed run was killed before it wrote a
    checkpoint.
    """
    logs_by_name, counts = [], dict[Path, int]()
    for name in sorted(were):
        file = renamed = folder / name
        if _is_events(file):
            number = counts[file.parent] = counts.get(file.parent, -1) + 1
            origin = file.name.removeprefix(EVENTS).partition(".")[2]
            renamed = file.with_name(f"{EVENTS}{number:010d}.{origin}")
            file = file if file.exists() else renamed
            renamed = file if renamed.exists() else renamed  # never replace a file that is not the run's
        if file.is_file():
            logs_by_name.append((renamed.relative_to(folder).as_posix(), file, were[name]))
    return logs_by_name


def rewind_table(file: Path, lines: int) -> None:
    """Keep the first `lines` lines of a table.

    Lines and not bytes, because a table is rewritten with longer rows when it gains columns.
    """
    with atomic(file) as stream:
        stream.writelines(_lines(file)[:lines])


def _is_events(file: Path) -> bool:
    return file.name.startswith(EVENTS)


def _lines(file: Path) -> list[bytes]:
    with file.open("rb") as stream:
        return stream.readlines()
