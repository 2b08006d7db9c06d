"""The report in TensorBoard: its figures as images, and an hparams session for each cell without events of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from nelbo.config.keys import TYPED_KEYS
from nelbo.sweeps.cells.values import is_axis, is_number, overrides_by_key, value_of
from nelbo.sweeps.report.cell_table import Row, SweepTable

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"
SUFFIX = ".report"
"""Suffix of the event files that a report writes. The next report replaces these files and no others."""

GROUPS = ("model", "data", "likelihood", "data.protocol")
"""Keys that are in every session whether they were swept or not, as in the runs' own sessions."""


def write_board(table: SweepTable, pictures: Sequence[tuple[str, Path]]) -> None:
    """Write the event files, in place of those of an earlier report.

    Args:
        table: all cells.
        pictures: the figures as pairs of tag and PNG file.
    """
    home = table.sweep / FOLDER
    for old in (*home.glob(f"{EVENTS}{SUFFIX}"), *home.glob(f"*/{EVENTS}{SUFFIX}")):
        old.unlink()
    if pictures:
        write(home, [Summary(value=[png(tag, file)]) for tag, file in pictures])
    without_events = [row for row in table.done if not any((row.cell.folder / FOLDER).glob(EVENTS))]
    if not without_events:
        return
    override_keys = (key for row in table.rows for key in overrides_by_key(row.cell) if is_axis(key))
    keys = list(dict.fromkeys((*TYPED_KEYS, *GROUPS, *override_keys)))
    metrics = [name for name in table.metrics if name.startswith("test/")]
    for row in without_events:
        write(home / row.cell.folder.name, session(row, keys, metrics))


def png(tag: str, file: Path) -> Summary.Value:
    """Return an image summary with the bytes of a PNG file, which is not encoded again."""
    with Image.open(file) as picture:
        width, height = picture.size
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=file.read_bytes())
    return Summary.Value(tag=f"sweep/{tag}", image=image)


def session(row: Row, keys: Sequence[str], metrics: Sequence[str]) -> list[Summary]:
    """Return the summaries of a cell's hparams session, which is named by its directory.

    TensorBoard finds the hyperparameters and metrics of all sessions itself, and which of them differ.

    Args:
        row: the cell.
        keys: the hyperparameters, the same for all cells.
        metrics: the names of the metrics, the same for all cells; those that the cell has become scalars.
    """
    values: dict[str, Any] = {}
    for key in keys:
        value = row.values[key] if key in row.values else value_of(row.cell, key)
        values[key] = value if isinstance(value, bool | int | float | str) else str(value)
    numbers = {key: row.metrics[key] for key in metrics if is_number(row.metrics.get(key))}
    scalars = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in numbers.items()])
    return [hparams_pb(values, trial_id=row.cell.folder.name), scalars]


def write(folder: Path, summaries: Sequence[Summary]) -> None:
    """Write summaries into one event file in a folder."""
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    for summary in summaries:
        writer.add_event(Event(summary=summary, step=0, wall_time=time.time()))
    writer.close()
