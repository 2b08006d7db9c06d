"""What a run logged after the checkpoint that it goes on from is taken back, so that its curves have no tooth."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from nelbo.files import atomic, write_text

EVENTS = "events.out.tfevents."
TABLES = ("history.csv", "kl_per_unit.csv", "csv/metrics.csv")


def rewind(folder: Path, step: int, epochs: int) -> None:
    """Drop what lies behind `step` in the tables and TensorBoard events of a run; before any, all is dropped.

    Args:
        folder: the run's directory.
        step: of the checkpoint.
        epochs: that are over.
    """
    for name in TABLES:
        rewind_table(folder / name, step, epochs)
    events = {file.parent for file in folder.rglob(f"{EVENTS}*")}
    for place in sorted(events):
        rewind_events(place, step)


def rewind_table(file: Path, step: int, epochs: int) -> None:
    """Keep the rows up to `step`; of a table without steps, those of the epochs that are over."""
    if not file.exists():
        return
    with file.open(newline="") as stream:
        rows = [row for row in csv.reader(stream) if row]
    header = rows[0] if rows else []
    column, most = ("step", step) if "step" in header else ("epoch", epochs)
    # A killed process leaves a line cut short; it was about to write what is dropped here anyway.
    kept = [row for row in rows[1:] if len(row) == len(header) and _number(row[header.index(column)]) <= most]
    if not kept:
        file.unlink()
        return
    text = io.StringIO(newline="")
    csv.writer(text).writerows([header, *kept])
    write_text(file, text.getvalue())


def rewind_events(folder: Path, step: int) -> None:
    """Keep the events up to `step`, in files whose names come before those of the run that goes on.

    TensorBoard reads the files of a directory in the order of their names, which begin with the time: a clock that was
    set back meanwhile must not turn the order round.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    for number, file in enumerate(sorted(folder.glob(f"{EVENTS}*"))):
        origin = file.name.removeprefix(EVENTS).partition(".")[2]
        kept = folder / f"{EVENTS}{number:010d}.{origin}"
        # The loader ends at a record that is cut short.
        records = [record for record in RawEventFileLoader(str(file)).Load() if Event.FromString(record).step <= step]
        if records:
            with atomic(kept) as stream:
                for record in records:
                    RecordWriter(stream).write(record)
        if kept != file or not records:
            file.unlink()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
