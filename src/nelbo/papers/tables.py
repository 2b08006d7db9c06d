"""Tables of records as Markdown, for the pages of the documentation."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nelbo.errors import DataError

UNKNOWN = "–"
"""What a cell shows that lacks one of its values."""

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        header: its header.
        template: a format string over the values of a record, its other keys and `at`, the commit in short.
        best: the value by which the lowest cell is printed in bold; empty for none.
    """

    header: str
    template: str
    best: str = ""

    def value(self, record: Record) -> float:
        """Return the value by which a record is the best; infinity if it has none."""
        value = record["values"].get(self.best)
        return math.inf if value is None else float(value)

    def text(self, record: Record, lowest: float | None) -> str:
        """Return the cell of a record, whose first word is in bold if its value is the lowest one."""
        text = Cells(record).cell(self.template)
        is_best = lowest is not None and self.value(record) == lowest
        return re.sub(r"^\S+", r"**\g<0>**", text) if is_best and text != UNKNOWN else text


def columns(*specifications: str) -> list[Column]:
    """Return columns that are written as `header | template` or `header | template | best`.

    Example:
        >>> columns("NLL | {nll} ± {nll_se} | nll")
        [Column(header='NLL', template='{nll} ± {nll_se}', best='nll')]
    """
    return [Column(*(part.strip() for part in one.split("|"))) for one in specifications]


@dataclass(frozen=True)
class Table:
    """A table of some records.

    Args:
        name: its name.
        columns: its columns.
        ids: the ids of its records, in their order; empty for all records whose `table` is the name.
        page: the page that it is on.
    """

    name: str
    columns: Sequence[Column]
    ids: Sequence[str] = ()
    page: str = "docs/results.md"

    def render(self, records: Sequence[Record]) -> str:
        """Return the table as Markdown.

        Args:
            records: all records.

        Raises:
            DataError: if one of its records, or every one, is missing.
        """
        return markdown([column.header for column in self.columns], self.rows(records))

    def rows(self, records: Sequence[Record]) -> list[list[str]]:
        """Return the cells of its rows; see `render`."""
        by_id = {record["id"]: record for record in records}
        if missing := [one for one in self.ids if one not in by_id]:
            raise DataError(f"the table {self.name} needs the record {missing[0]}, which does not exist")
        chosen = [by_id[one] for one in self.ids] or [record for record in records if record["table"] == self.name]
        if not chosen:
            raise DataError(f"the table {self.name} has no records")
        lowest = {column: min(map(column.value, chosen)) for column in self.columns if column.best}
        return [[column.text(one, lowest.get(column)) for column in self.columns] for one in chosen]


class Missing(Exception):
    """A value that a record lacks."""


class Cells(string.Formatter):
    """Format strings over a record; numbers without a format have the decimals of the record, two by default."""

    def __init__(self, record: Record) -> None:
        self.decimals = record.get("decimals", 2)
        commit, modified = record.get("commit"), ", modified" if record.get("modified") else ""
        at = None if commit is None else f"{commit[:7]}{modified}"
        self.figures: dict[str, Any] = {**record, **record["values"], "at": at}

    def cell(self, template: str) -> str:
        """Return the text of a cell; `UNKNOWN` if one of its values is missing or null."""
        try:
            return self.vformat(template, (), self.figures)
        except Missing:
            return UNKNOWN

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return a value of the record."""
        if kwargs.get(str(key)) is None:
            raise Missing
        return kwargs[str(key)]

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return a value as text; the entries of a list are separated by commas."""
        if isinstance(value, list):
            return ", ".join(self.format_field(one, format_spec) for one in value)
        if isinstance(value, float) and not format_spec:
            format_spec = f".{self.decimals}f"
        return format(value, format_spec)


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([body[0], body[1].replace(" ", ""), *body[2:]])
