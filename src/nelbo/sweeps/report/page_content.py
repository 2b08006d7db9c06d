"""Collecting the content of report.html from the cells and figures of a sweep."""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import PIL.Image

from nelbo.sweeps.cells.record import STATES, cells_of, grouped_errors
from nelbo.sweeps.cells.values import Value, format_value
from nelbo.sweeps.report.best import (
    best_setting,
    command,
    describe_result,
    describe_setting,
    selection_criterion,
)
from nelbo.sweeps.report.cell_table import Group, Row, SweepTable, score
from nelbo.sweeps.report.formatting import describe_values, format_number
from nelbo.sweeps.report.metric_names import NAMES, NELBO, RECONSTRUCTION
from nelbo.sweeps.report.origin import Origin
from nelbo.sweeps.report.page import (
    Answer,
    Card,
    Failure,
    Figure,
    FigureGroup,
    Gallery,
    Image,
    Link,
    Message,
    PageContent,
    SectionContent,
    SweptKey,
)
from nelbo.sweeps.report.page_tables import cells_table, directory_link, log_link, means_table
from nelbo.sweeps.report.results_file import CSV, JSON
from nelbo.sweeps.report.scales import DPI
from nelbo.terminal.programs import program

MOST_CARDS = 60
MOST_ERRORS = 5
MOST_LISTED = 12
"""The largest number of values of a swept key that are listed; of more, the smallest and the largest are given."""

PIXELS_PER_INCH = 96
"""CSS pixels per inch of a figure, at which text of 9 points, the smallest in figures, is 12 pixels high."""

STRIPS = (("samples", "samples from the prior"), ("reconstructions", "held-out images above, reconstructions below"))
"""The pictures that a cell may have left, with their descriptions."""


@dataclass(frozen=True)
class SavedPicture:
    """A figure in a file.

    Args:
        title: the heading above it.
        caption: what it shows.
        file: a PNG file.
        description: the text that stands for it where it is not shown.
    """

    title: str
    caption: str
    file: Path
    description: str


@dataclass(frozen=True)
class Section:
    """Cells that are comparable with each other, with their figures.

    Args:
        name: their data; empty if there is one section only.
        table: the cells.
        pictures: the figures; those with one title follow each other.
    """

    name: str
    table: SweepTable
    pictures: list[SavedPicture] = field(default_factory=list)


def page_content(
    table: SweepTable, sections: Sequence[Section], reason: str, origin: Origin | None = None
) -> PageContent:
    """Return the content of the page.

    Args:
        table: all cells.
        sections: the groups of comparable cells.
        reason: why there are several; empty if there is one.
        origin: the training that all cells are settings of; None if each has its own.
    """
    best = None if reason else best_setting(table)
    warning = f"Not all cells are comparable, so each comparable group has its own figures: {reason}."
    directory = shlex.quote(str(table.sweep.resolve()))
    return PageContent(
        title=f"Sweep {table.sweep.resolve().name}" if origin is None else f"Settings of {Path(origin.run).name}",
        origin=origin.text if origin else "",
        answer=answer(best, table, alone=origin is None) if best is not None else None,
        message=no_result(table) if not table.done else None,
        progress=progress(table),
        swept=[SweptKey(axis.key, list_values(axis.values)) for axis in table.axes],
        comparison_warning=warning if reason else "",
        sections=[section_content(section) for section in sections],
        failures=[
            Failure(row.cell.state, row.cell.folder.name, directory_link(row), row.cell.error, log_link(row))
            for row in table.rows
            if row.cell.error
        ],
        cells=cells_table(table, [section.table for section in sections]),
        files=[Link(name, name) for name in (CSV, JSON)],
        written=time.strftime("%Y-%m-%d %H:%M:%S"),
        report_command=f"{program('report')} sweep={directory}",
        tensorboard_command=f"tensorboard --logdir {directory}",
    )


def progress(table: SweepTable) -> str:
    """Return how many cells are in each state, as a sentence."""
    counts = {state: sum(row.cell.state == state for row in table.rows) for state in STATES}
    rest = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "done")
    return f"{counts['done']} of {len(table.rows)} cells done" + (f"; {rest}" if rest else "") + "."


def list_values(values: Sequence[Value]) -> str:
    """Return the values of a swept key; the first and the last if there are many."""
    if len(values) <= MOST_LISTED:
        return ", ".join(map(format_value, values))
    return f"{len(values)} values, {format_value(values[0])} to {format_value(values[-1])}"


def answer(group: Group, table: SweepTable, *, alone: bool = True) -> Answer:
    """Return the best setting of a table, with its result and the command that trains it.

    Args:
        group: the setting.
        table: the cells.
        alone: whether it had a training of its own.
    """
    several = bool(table.swept)
    criterion = selection_criterion(group) if several else ""
    purpose = "Command to train it again" if alone else "Command to train this setting on its own"
    setting, result = describe_setting(group, table), describe_result(group)
    return Answer(several, setting, result, criterion, purpose, command(group, table))


def no_result(table: SweepTable) -> Message:
    """Return why no cell has a result: an error with its reasons, or a warning if cells may still get one."""
    errors = grouped_errors(row.cell for row in table.rows)
    if not errors or any(row.cell.state in ("pending", "running") for row in table.rows):
        return Message("warning", "No cell has finished yet.")
    listed = "; ".join(f"{error} ({cells_of(count)})" for count, error in errors[:MOST_ERRORS])
    rest = f"; and {len(errors) - MOST_ERRORS} other errors" if len(errors) > MOST_ERRORS else ""
    return Message("error", f"No cell has a result: {listed}{rest}.")


def section_content(section: Section) -> SectionContent:
    """Return the content of a section. Its best setting is shown where the page has several sections."""
    best = best_setting(section.table) if section.name else None
    return SectionContent(
        title=section.name,
        answer=answer(best, section.table) if best is not None else None,
        figure_groups=[
            FigureGroup(title, figures(pictures))
            for title, pictures in groupby(section.pictures, key=lambda picture: picture.title)
        ],
        means=means_table(section.table, section.name),
        gallery=gallery(section.table),
    )


def figures(pictures: Iterable[SavedPicture]) -> list[Figure]:
    """Return figures for the page, at a size that gives their text the same height in all of them."""
    contents = []
    for picture in pictures:
        with PIL.Image.open(picture.file) as image:
            width = round(image.width / DPI * PIXELS_PER_INCH)
        contents.append(Figure(Image(embed(picture.file), picture.description, width), picture.caption))
    return contents


def embed(file: Path) -> str:
    """Return a `data:` URL with the content of a PNG file."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def gallery(table: SweepTable) -> Gallery | None:
    """Return the samples and reconstructions of one cell per setting; of the best settings if there are too many.

    None if no cell left any.
    """
    candidates = (next((row for row in group.rows if row.done and strips(row)), None) for group in table.groups)
    rows = [row for row in candidates if row is not None]
    if not rows:
        return None
    shown = sorted(rows, key=score)[:MOST_CARDS] if len(rows) > MOST_CARDS else rows
    note = "Each card: samples from the prior; below them, held-out images above their reconstructions."
    note += " All cells use the same noise and the same images; one seed of each setting is shown."
    if len(shown) < len(rows):
        note += f" The best {len(shown)} of {len(rows)} settings are shown."
    return Gallery(note, [card(row, table) for row in shown])


def card(row: Row, table: SweepTable) -> Card:
    """Return the samples and reconstructions of a cell, with its values and its main metric."""
    metric = NELBO if NELBO in row.metrics else RECONSTRUCTION
    setting = describe_values({axis.key: row.values[axis.key] for axis in table.axes})
    images = [Image(embed(file), f"{setting}: {description}") for file, description in strips(row)]
    return Card(setting, f"{NAMES[metric]} {format_number(row.metrics.get(metric))}", images)


def strips(row: Row) -> list[tuple[Path, str]]:
    """Return the pictures that a cell left, with their descriptions."""
    files = [(row.cell.folder / "pictures" / f"{name}.png", description) for name, description in STRIPS]
    return [(file, description) for file, description in files if file.is_file()]
