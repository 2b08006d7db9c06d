"""What a person sees while a sweep runs: a table at a terminal, a line a finished cell elsewhere."""

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
SECONDS_BETWEEN_LOOKS = 0.5
MOST_ERRORS = 3
LATEST = 5
"""How many of the finished cells are shown."""


class LiveTable:
    """Follows the cells of a sweep through their files, so it serves every launcher, and another terminal too.

    Args:
        sweep: its directory.
        identities: the cells to follow; all if None.
    """

    def __init__(self, sweep: Path, identities: Sequence[str] | None = None) -> None:
        self.sweep, self.identities = sweep, identities
        self.started = time.time()
        self.cells = read_cells(sweep, identities)
        self.before = {cell.identity for cell in self.cells if cell.state == "done"}
        self.told = set(self.before)
        self.looked = 0.0
        console = make_console(stderr=True, soft_wrap=False)
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> LiveTable:
        if self.live:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.looked = 0.0
        self.refresh()
        if self.live:
            self.live.stop()

    def refresh(self) -> None:
        """Look again, if it is time."""
        if time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        self.looked = time.monotonic()
        # A cell that is done, and has said so, stays as it is; of the others, files may have changed.
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
            self.told.add(cell.identity)
            log.info("[%d/%d] %s", done, len(self.cells), line(cell))

    def _ended_now(self, cell: Cell) -> bool:
        """Whether a cell ended that was started here, and nothing was said of it yet."""
        ours = float(cell.record.get("started") or 0) >= self.started
        over = bool(cell.record.get("ended")) or cell.error == VANISHED
        return over and ours and cell.identity not in self.told

    def count(self, state: str) -> int:
        """How many cells are in a state."""
        return sum(cell.state == state for cell in self.cells)

    def seconds_left(self) -> float | None:
        """At the speed of this session's cells; None before the first has ended."""
        done = [cell for cell in self.cells if cell.state == "done" and cell.identity not in self.before]
        to_go = self.count("pending") + self.count("running")
        return (time.time() - self.started) / len(done) * to_go if done else None

    def summary(self) -> str:
        """Counts and the time left, in one line."""
        counts = ", ".join(f"{self.count(state)} {state}" for state in STATES if self.count(state))
        left = self.seconds_left()
        return f"{cells_of(len(self.cells))}: {counts}" + (f"; about {duration(left)} left" if left else "")

    def render(self, height: int = 24) -> Group:
        """The summary, what failed, what runs and what ended last, a line each, in at most `height` lines."""
        errors = error_lines(self.cells)
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("state", "cell", "epoch", "−ELBO", "time"):
            left = column in ("state", "cell")
            # Rich narrows columns that may wrap: where room is short, the cell's name, which does not, is cut.
            table.add_column(column, justify="left" if left else "right", no_wrap=column != "cell")
        ended = sorted((c for c in self.cells if c.state == "done"), key=lambda c: float(c.record.get("ended") or 0))
        running = [cell for cell in self.cells if cell.state == "running"]
        room = max(1, height - len(errors) - 3)  # the summary, the headings, and a line that may say how many more
        for cell in [*running[:room], *ended[: -LATEST - 1 : -1]][:room]:
            state, name, *rest = row(cell)
            table.add_row(state, Text(name, no_wrap=True, overflow="ellipsis"), *rest)
        more = [Text(f"{len(running) - room} more running", style="dim")] if len(running) > room else []
        return Group(Text(self.summary(), style="bold"), *errors, table, *more)


def error_lines(cells: Iterable[Cell]) -> list[Text]:
    """A line for each of the most frequent errors, cut where the terminal ends; the account at the end has all."""
    errors = grouped_errors(cell for cell in cells if cell.state == "failed")
    lines = [f"{cells_of(count)} failed: {error}" for count, error in errors[:MOST_ERRORS]]
    if len(errors) > MOST_ERRORS:
        more = len(errors) - MOST_ERRORS
        lines.append(f"{more} more {'error' if more == 1 else 'errors'}")
    return [Text(line, style="red", no_wrap=True, overflow="ellipsis") for line in lines]


def row(cell: Cell) -> tuple[str, str, str, str, str]:
    """State, name, epoch, number and time of a cell."""
    started = float(cell.record.get("started") or 0)
    spent = cell.seconds if cell.state != "running" else time.time() - started
    last = last_validation(cell.folder)
    told = cell.metrics or {key: float(value) for key, value in last.items() if key.startswith("val/")}
    number = f"{headline(told):.2f}" if told else ""
    return cell.state, cell.folder.name, last.get("epoch", ""), number, duration(spent)


def line(cell: Cell) -> str:
    """How a cell ended."""
    told = f"{headline(cell.metrics):.4f} nats" if cell.metrics else cell.error
    return f"{cell.state} {cell.folder.name}: {told}, {duration(cell.seconds)}"


def last_validation(folder: Path) -> dict[str, str]:
    """The last row of a run's `history.csv`; empty before the first."""
    rows: list[dict[str, str]] = []
    with contextlib.suppress(OSError), (folder / HISTORY).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return rows[-1] if rows else {}


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
