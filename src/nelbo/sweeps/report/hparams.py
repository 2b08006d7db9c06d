"""The report in TensorBoard: its figures as images, and an hparams session for each cell that kept no events itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.utils.tensorboard.summary import hparams

from nelbo.config.keys import TYPED_KEYS
from nelbo.sweeps.cells.values import is_axis, is_number, typed, value_of
from nelbo.sweeps.report.cell_table import Row, SweepTable

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"
SUFFIX = ".report"
"""Of what a report writes, and the next one replaces; other files in the folder are somebody else's."""

GROUPS = ("model", "data", "likelihood", "data.protocol")
"""Shown of every cell, as `Dashboard` does, whether they were swept or not."""


def write_board(table: SweepTable, pictures: Sequence[tuple[str, Path]]) -> None:
    """Replace what an earlier report wrote.

    Args:
        table: all cells.
        pictures: PNG files by tag.
    """
    home = table.sweep / FOLDER
    for old in (*home.glob(f"{EVENTS}{SUFFIX}"), *home.glob(f"*/{EVENTS}{SUFFIX}")):
        old.unlink()
    if pictures:
        write(home, [Summary(value=[png(tag, file)]) for tag, file in pictures])
    silent = [row for row in table.done if not any((row.cell.folder / FOLDER).glob(EVENTS))]
    if not silent:
        return
    typed_keys = (key for row in table.rows for key in typed(row.cell) if is_axis(key))
    keys = list(dict.fromkeys((*TYPED_KEYS, *GROUPS, *typed_keys)))
    metrics = [name for name in table.metrics if name.startswith("test/")]
    for row in silent:
        write(home / row.cell.folder.name, session(row, keys, metrics))


def png(tag: str, file: Path) -> Summary.Value:
    """A picture as it is, not encoded again."""
    with Image.open(file) as picture:
        width, height = picture.size
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=file.read_bytes())
    return Summary.Value(tag=f"sweep/{tag}", image=image)


def session(row: Row, keys: Sequence[str], metrics: Sequence[str]) -> list[Summary]:
    """An hparams session, with the same keys whatever the cell, and its results."""
    values: dict[str, Any] = {}
    for key in keys:
        value = row.values[key] if key in row.values else value_of(row.cell, key)
        values[key] = value if isinstance(value, bool | int | float | str) else str(value)
    found = {key: row.metrics[key] for key in metrics if is_number(row.metrics.get(key))}
    scalars = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in found.items()])
    return [*hparams(values, dict.fromkeys(metrics, 0.0)), scalars]


def write(folder: Path, summaries: Sequence[Summary]) -> None:
    """One event file."""
    writer = EventFileWriter(str(folder), filename_suffix=SUFFIX)
    for summary in summaries:
        writer.add_event(Event(summary=summary, step=0, wall_time=time.time()))
    writer.close()
