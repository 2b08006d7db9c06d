"""What is printed for people: text as it is, whatever signs it holds, and tables that show names whole."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNLIMITED = 100_000
"""Columns of what is no terminal: a file or a pipe takes lines of any length."""


def make_console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """A console that prints `[b]` and `:key:` as they are: names of directories, files and units may hold them."""
    console = Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNLIMITED
    return console


def width_of(table: Table, console: Console) -> int:
    """The columns that a table takes where nothing in it is wrapped."""
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum


def has_room(table: Table, console: Console) -> bool:
    """Whether a table can be printed with nothing in it wrapped."""
    return width_of(table, console) <= console.width


def print_table(table: Table, console: Console) -> None:
    """Print a table in which nothing is cut off: as wide as it is where there is room, else wrapped within its cells.

    Its title stands above it in a line of its own, which the table's width does not wrap.
    """
    title, table.title = table.title, None
    if title:
        console.print(Text(str(title), style="italic"), soft_wrap=True)
    for column in table.columns:
        column.overflow = "fold"
    console.print(table, width=width_of(table, console) if has_room(table, console) else console.width, soft_wrap=False)


def print_side_by_side(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table with a column for each name; where there is no room for that, by numbers, in several tables.

    Args:
        title: what is compared.
        names: of the columns behind the first.
        rows: what a row is about, and a cell for each name.
        console: where.
    """
    table = _table(title, names, rows)
    if has_room(table, console):
        print_table(table, console)
        return
    numbers = [f"[{number}]" for number in range(1, len(names) + 1)]
    console.print(Text(title, style="italic"), soft_wrap=True)
    for number, name in zip(numbers, names, strict=True):
        console.print(f"{number} {name}", highlight=False, soft_wrap=True)
    start = 0
    while start < len(names):
        end = len(names)
        while end > start + 1 and not has_room(_part(numbers, rows, start, end), console):
            end -= 1
        print_table(_part(numbers, rows, start, end), console)
        start = end


def _part(numbers: Sequence[str], rows: Sequence[Sequence[str]], start: int, end: int) -> Table:
    return _table("", numbers[start:end], [[row[0], *row[1 + start : 1 + end]] for row in rows])


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
