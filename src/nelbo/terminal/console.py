"""Consoles that print text literally, and tables in which names are never cut off."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNLIMITED = 100_000
"""Width, in columns, of output that is not a terminal: a file or a pipe takes lines of any length."""


def make_console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """Return a console that prints `[b]` and `:key:` literally, because names of files and units may contain them."""
    console = Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNLIMITED
    return console


def width_of(table: Table, console: Console) -> int:
    """Return the width of a table, in columns, if nothing in it is wrapped."""
    return Measurement.get(console, console.options.update(max_width=UNLIMITED), table).maximum


def has_room(table: Table, console: Console) -> bool:
    """Return whether a table fits the console with nothing in it wrapped."""
    return width_of(table, console) <= console.width


def print_table(table: Table, console: Console) -> None:
    """Print a table with nothing cut off: at its full width where that fits, otherwise with its cells wrapped.

    The title is printed on a separate line above the table, so it is not wrapped to the table's width.
    """
    title, table.title = table.title, None
    if title:
        console.print(Text(str(title), style="italic"), soft_wrap=True)
    for column in table.columns:
        column.overflow = "fold"
    console.print(table, width=width_of(table, console) if has_room(table, console) else console.width, soft_wrap=False)


def print_side_by_side(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table with one column per name.

    Where the table does not fit, the names are listed with numbers, and several tables with numbered columns follow.

    Args:
        title: title of the table.
        names: names of the columns after the first.
        rows: for each row its label, then a cell for each name.
        console: console to print to.
    """
    table = _make_table(title, names, rows)
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
        while end > start + 1 and not has_room(_select_columns(numbers, rows, start, end), console):
            end -= 1
        print_table(_select_columns(numbers, rows, start, end), console)
        start = end


def _select_columns(numbers: Sequence[str], rows: Sequence[Sequence[str]], start: int, end: int) -> Table:
    return _make_table("", numbers[start:end], [[row[0], *row[1 + start : 1 + end]] for row in rows])


def _make_table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table
