"""The content of report.html as plain data, and its rendering by the templates beside this module."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True)
class Message:
    """A highlighted sentence.

    Args:
        kind: `warning` or `error`.
        text: the sentence.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Answer:
    """The best setting of comparable cells, or the only one.

    Args:
        is_best: whether there are several settings, of which this is the best.
        setting: its swept values.
        result: its result with unit and number of seeds.
        criterion: the quantity by which it was chosen; empty if it is the only one.
        purpose: what the command is for.
        command: the shell command that trains it.
    """

    is_best: bool
    setting: str
    result: str
    criterion: str
    purpose: str
    command: str


@dataclass(frozen=True)
class SweptKey:
    """A key whose value differs between cells.

    Args:
        key: the key.
        values: its values, as text.
    """

    key: str
    values: str


@dataclass(frozen=True)
class Link:
    """A link to a file or directory in that of the page.

    Args:
        text: what is shown.
        address: the path relative to the page, as in a URL.
    """

    text: str
    address: str


@dataclass(frozen=True)
class Entry:
    """An entry of a table.

    Args:
        text: what is shown.
        sort_value: the number that it is sorted by, as text, empty if it has none; None for entries sorted by `text`.
        link: the link that is shown in place of the text; None if it is none.
    """

    text: str
    sort_value: str | None = None
    link: Link | None = None


@dataclass(frozen=True)
class Heading:
    """The heading of a table's column.

    Args:
        text: what is shown.
        numeric: whether all entries of the column are numbers.
        order: `ascending` or `descending` if the rows are sorted by the column, as in `aria-sort`; empty if not.
    """

    text: str
    numeric: bool
    order: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Args:
        entries: one per column.
        best: whether it is of the best setting.
    """

    entries: Sequence[Entry]
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a sentence about it.

    Args:
        label: its name for screen readers.
        note: the sentence above the table.
        headings: one per column.
        rows: the rows.
    """

    label: str
    note: str
    headings: Sequence[Heading]
    rows: Sequence[TableRow]


@dataclass(frozen=True)
class Image:
    """A picture inside the page.

    Args:
        address: a `data:` URL with its content.
        description: the text that stands for it where it is not shown.
        width: in CSS pixels; None to fill its container.
    """

    address: str
    description: str
    width: int | None = None


@dataclass(frozen=True)
class Figure:
    """A figure with its caption.

    Args:
        image: the figure.
        caption: what it shows.
    """

    image: Image
    caption: str


@dataclass(frozen=True)
class FigureGroup:
    """Figures under one heading.

    Args:
        title: the heading.
        figures: the figures.
    """

    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Card:
    """Samples and reconstructions of one cell.

    Args:
        setting: its values on all axes.
        result: its main metric.
        images: the pictures.
    """

    setting: str
    result: str
    images: Sequence[Image]


@dataclass(frozen=True)
class Gallery:
    """Samples and reconstructions of cells.

    Args:
        note: what is shown.
        cards: one per cell.
    """

    note: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class SectionContent:
    """The part of the page about cells that are comparable with each other.

    Args:
        title: their data; empty if the page has one section only.
        answer: their best setting, for pages with several sections.
        figure_groups: their figures.
        means: means over seeds; None if no setting has several cells.
        gallery: their samples and reconstructions; None if they left none.
    """

    title: str
    answer: Answer | None
    figure_groups: Sequence[FigureGroup]
    means: Table | None
    gallery: Gallery | None


@dataclass(frozen=True)
class Failure:
    """A cell without a result.

    Args:
        state: one of `nelbo.sweeps.cells.record.STATES`.
        directory: the name of its directory.
        link: the link to it; None if it does not exist.
        error: the reason.
        log: what it wrote on the console; None if there is no such file.
    """

    state: str
    directory: str
    link: Link | None
    error: str
    log: Link | None


@dataclass(frozen=True)
class PageContent:
    """All that report.html shows.

    Args:
        title: the heading of the page.
        origin: which one training all cells are settings of; empty if each has its own.
        answer: the best setting, if all cells are comparable and one has a result.
        message: why there is no result; None if there is one.
        progress: how many cells are in each state.
        swept: the keys whose values differ between cells.
        comparison_warning: why not all cells are comparable; empty if they are.
        sections: one for each group of comparable cells.
        failures: the cells without a result that have an error.
        cells: the table of all cells.
        files: the files with all metrics.
        written: when the page was written.
        report_command: the shell command that writes it again.
        tensorboard_command: the shell command that shows the learning curves of all cells.
    """

    title: str
    origin: str
    answer: Answer | None
    message: Message | None
    progress: str
    swept: Sequence[SweptKey]
    comparison_warning: str
    sections: Sequence[SectionContent]
    failures: Sequence[Failure]
    cells: Table
    files: Sequence[Link]
    written: str
    report_command: str
    tensorboard_command: str


def render(content: PageContent) -> str:
    """Return the page as one HTML document that loads no other file; all values are escaped."""
    return environment().get_template("report.html").render(page=content)


@functools.cache
def environment() -> Environment:
    """Return the environment of the templates, which escapes every value."""
    return Environment(
        loader=PackageLoader("nelbo.sweeps.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
