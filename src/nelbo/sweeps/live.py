"""The progress of a running sweep: a live table at a terminal, otherwise a log line for each cell that ends."""

from __future__ import annotations

import contextlib
import csv
import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nelbo.directories.logs import HISTORY
from nelbo.running.scores import headline
from nelbo.sweeps.cells.record import STATES, VANISHED, Cell, cells_of, grouped_errors, read_cells
from nelbo.terminal.console import make_console

log = logging.getLogger(__name__)
REFRESH_INTERVAL = 0.5
"""Least seconds between two refreshes."""

REFRESH_SHARE = 20
"""The next refresh waits this many times as long as the last one took: it reads files of all unfinished cells."""

MOST_ERRORS = 3
"""The number of different errors that the table shows."""

LATEST = 5
"""The number of finished cells that the table shows, the most recent first."""


class LiveTable:
    """Context manager that shows the progress of a sweep.

    It reads the files of the cells, so it works with every launcher and in a process other than that of the sweep.

    Args:
        sweep: the directory of the sweep.
        identities: the cells to show; all if None.
    """

    def __init__(self, sweep: Path, identities: Sequence[str] | None = None) -> None:
        self.sweep, self.identities = sweep, identities
        self.started = time.time()
        self.cells = read_cells(sweep, identities)
        self.before = {cell.identity for cell in self.cells if cell.state == "done"}
        self.logged = set(self.before)
        self.refreshed, self.wait = 0.0, REFRESH_INTERVAL
        console = make_console(stderr=True, soft_wrap=False)
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.show()
        if self.live:
            self.live.stop()

    def refresh(self) -> None:
        """Read the files again and show their state, unless the last time was less than `wait` seconds ago."""
        if time.monotonic() - self.refreshed < self.wait:
            return
        start = time.monotonic()
        self.show()
        self.refreshed = time.monotonic()
        self.wait = max(REFRESH_INTERVAL, REFRESH_SHARE * (self.refreshed - start))

    def show(self) -> None:
        """Read the files again and show their state."""
        # A cell that is done and has recorded its end does not change any more.
        open_cells = [cell.identity for cell in self.cells if cell.state != "done" or not cell.record.get("ended")]
        fresh = {cell.identity: cell for cell in read_cells(self.sweep, open_cells)}
        self.cells = [fresh.get(cell.identity, cell) for cell in self.cells]
        if self.live:
            self.live.update(self.render(self.live.console.height - 1), refresh=True)
            return
        ended = [cell for cell in self.cells if self._ended_now(cell)]
        done = self.count("done") - sum(cell.state == "done" for cell in ended)
        for cell in ended:
            done += cell.state == "done"
            self.logged.add(cell.identity)
            log.info("[%d/%d] %s", done, len(self.cells), line(cell))

    def _ended_now(self, cell: Cell) -> bool:
        """Return whether a cell has ended that started during this sweep and has no log line yet."""
        ours = float(cell.record.get("started") or 0) >= self.started
        over = bool(cell.record.get("ended")) or cell.error == VANISHED
        return over and ours and cell.identity not in self.logged

    def count(self, state: str) -> int:
        """Return the number of cells in a state."""
        return sum(cell.state == state for cell in self.cells)

    def seconds_left(self) -> float | None:
        """Estimate the time left from the cells done since the start; None before the first is done."""
        done = [cell for cell in self.cells if cell.state == "done" and cell.identity not in self.before]
        to_go = self.count("pending") + self.count("running")
        return (time.time() - self.started) / len(done) * to_go if done else None

    def summary(self) -> str:
        """Return the counts of states and the time left, in one line."""
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES if self.count(state))
        left = self.seconds_left()
        return f"{cells_of(len(self.cells))}: {counts}" + (f"; about {duration(left)} left" if left else "")

    def render(self, height: int = 24) -> Group:
        """Return the summary, errors, running cells and most recently finished cells, in at most `height` lines."""
        errors = error_lines(self.cells)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("state", "cell", "epoch", "negative ELBO", "time"):
            left = column in ("state", "cell")
            # Where space is short, Rich narrows the columns that may wrap, which is the cell's name; it is then cut.
            table.add_column(column, justify="left" if left else "right", no_wrap=column != "cell")
        ended = sorted((c for c in self.cells if c.state == "done"), key=lambda c: float(c.record.get("ended") or 0))
        running = [cell for cell in self.cells if cell.state == "running"]
        room = max(1, height - len(errors) - 3)  # without the summary, the headings and the line "... more running"
        for cell in [*running[:room], *ended[: -LATEST - 1 : -1]][:room]:
            state, name, *rest = row(cell)
            table.add_row(state, Text(name, no_wrap=True, overflow="ellipsis"), *rest)
        more = [Text(f"{len(running) - room} more running", style="dim")] if len(running) > room else []
        return Group(Text(self.summary(), style="bold"), *errors, table, *more)


def error_lines(cells: Iterable[Cell]) -> list[Text]:
    """Return a line for each of the most frequent errors, cut at the width of the terminal."""
    errors = grouped_errors(cell for cell in cells if cell.state == "failed")
    lines = [f"{cells_of(count)} failed: {error}" for count, error in errors[:MOST_ERRORS]]
    if len(errors) > MOST_ERRORS:
        more = len(errors) - MOST_ERRORS
        lines.append(f"{more} more {'error' if more == 1 else 'errors'}")
    return [Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in lines]


def row(cell: Cell) -> tuple[str, str, str, str, str]:
    """Return the state, name, epoch, headline score and time of a cell."""
    started = float(cell.record.get("started") or 0)
    spent = cell.seconds if cell.state != "running" else time.time() - started
    last = last_validation(cell.folder)
    metrics = cell.metrics or {key: float(value) for key, value in last.items() if key.startswith("val/")}
    score = f"{headline(metrics):.2f}" if metrics else ""
    return cell.state, cell.folder.name, last.get("epoch", ""), score, duration(spent)


def line(cell: Cell) -> str:
    """Return the log line of a cell that has ended: its state, name, score or error, and time."""
    result = f"{headline(cell.metrics):.4f} nats" if cell.metrics else cell.error
    return f"{cell.state} {cell.folder.name}: {result}, {duration(cell.seconds)}"


def last_validation(folder: Path) -> dict[str, str]:
    """Return the last row of a run's `history.csv`; empty before the first validation."""
    rows: list[dict[str, str]] = []
    with contextlib.suppress(OSError), (folder / HISTORY).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return rows[-1] if rows else {}


def duration(seconds: float) -> str:
    """Format a number of seconds.

    >>> duration(4.2), duration(600), duration(7200)
    ('4 s', '10 min', '2 h 00 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
