"""What a sweep's directory says of its cells. Written by many processes, read by one: every file is whole or absent.

sweep.json          what was asked for: the command, and of each cell its identity, directory and overrides
sweep.lock, .owner  the same as a cell's, of the command that is at work
<cell>/cell.json    how it goes: state, error, config, choices
<cell>/cell.lock    held while it runs; the system releases it when its owner dies, however it dies
<cell>/cell.owner   who runs it, touched while it runs: for other machines, which the lock may not reach
<cell>/metrics.json its result, written last
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nelbo.directories.names import METRICS
from nelbo.directories.owner import Ownership, living_owner
from nelbo.errors import NelboError
from nelbo.files import read_json, write_json

PLAN, RECORD = "sweep.json", "cell.json"
CELL, SWEEP = "cell", "sweep"
"""What a directory is owned as."""

STATES = ("done", "running", "failed", "pruned", "stopped", "pending")
VANISHED = "ended without a word: killed, or its machine went down"
LOCK_PATIENCE = 5.0
"""Seconds for which a starting cell waits for its lock: a reader holds it for a moment to see whether it is free."""


class SweepError(NelboError):
    """A sweep with cells that failed, or a directory that is none."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell as its directory tells it.

    Args:
        identity: of its resolved config.
        folder: its directory.
        overrides: what was typed or swept, `key=value` each.
        record: what `cell.json` says; empty before it starts.
    """

    identity: str
    folder: Path
    overrides: tuple[str, ...]
    record: Mapping[str, Any]

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """Its result, if `metrics.json` is there, whole, and of this identity; else empty."""
        found = read_json(self.folder / METRICS)
        return found if found.get("identity") == self.identity else {}

    @functools.cached_property
    def state(self) -> str:
        """One of `STATES`."""
        if self.metrics:
            return "done"
        told = str(self.record.get("state", "pending"))
        if told == "done":  # its metrics.json is gone, or is another run's
            return "pending"
        if told == "running" and living_owner(self.folder, CELL) is None:
            return "failed"
        return told

    @property
    def error(self) -> str:
        """Why it failed, or was stopped or pruned; in one line."""
        if self.state == "failed" and self.record.get("state") == "running":
            return VANISHED
        return str(self.record.get("error", "")) if self.state not in ("done", "running") else ""

    @property
    def config(self) -> dict[str, Any]:
        """Its resolved config; empty before it starts."""
        return dict(self.record.get("config", {}))

    @property
    def seconds(self) -> float:
        """How long it ran, start to end; 0 if it has not ended."""
        return float(self.record["ended"]) - float(self.record["started"]) if self.record.get("ended") else 0.0


@dataclasses.dataclass
class Plan:
    """What was asked of a sweep directory, by all commands that used it.

    Args:
        command: the last one, as it was typed.
        cells: by identity, the directory's name and the overrides of each.
        newest: the identities that the last command asked for.
        token: a name of the sweep that no other has, by which a search knows its trials among those of its study.
    """

    command: list[str] = dataclasses.field(default_factory=list)
    cells: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    newest: list[str] = dataclasses.field(default_factory=list)
    token: str = dataclasses.field(default_factory=functools.partial(secrets.token_hex, 8))

    @classmethod
    def read(cls, sweep: Path) -> Plan:
        """The plan of a directory; an empty one if there is none."""
        found = read_json(sweep / PLAN)
        return cls(**{field.name: found[field.name] for field in dataclasses.fields(cls) if field.name in found})

    def write(self, sweep: Path) -> None:
        """Keep it."""
        write_json(sweep / PLAN, dataclasses.asdict(self))

    def add(self, identity: str, name: str, overrides: Iterable[str]) -> str:
        """Ask for a cell; its directory's name: the one that it has already, or `name`."""
        return str(self.cells.setdefault(identity, {"name": name, "overrides": list(overrides)})["name"])


def read_cells(sweep: Path, identities: Iterable[str] | None = None) -> list[Cell]:
    """The cells of a sweep, in the order in which they were asked for.

    Args:
        sweep: its directory.
        identities: those to read; all if None.

    Raises:
        SweepError: if it is no directory of a sweep, or of one that has not asked for a cell.
    """
    plan = Plan.read(sweep)
    if not plan.cells and (sweep / PLAN).exists():
        raise SweepError(f"{sweep}: its {PLAN} names no cell: what began the sweep ended before it asked for one")
    if not plan.cells:
        raise SweepError(f"{sweep}: is not the directory of a sweep (it has no {PLAN})")
    wanted = plan.cells if identities is None else identities
    return [read_cell(sweep / plan.cells[key]["name"], key, plan.cells[key]["overrides"]) for key in wanted]


def read_cell(folder: Path, identity: str, overrides: Iterable[str]) -> Cell:
    """A cell; what its `cell.json` says counts only if it is of this identity."""
    record = read_json(folder / RECORD)
    return Cell(identity, folder, tuple(overrides), record if record.get("identity") == identity else {})


def grouped_errors(cells: Iterable[Cell]) -> list[tuple[int, str]]:
    """How many cells ended with each error, the most frequent first; without what each says of its own directory."""
    errors = Counter(shared_error(cell) for cell in cells if cell.error)
    return [(count, error) for error, count in errors.most_common()]


def shared_error(cell: Cell) -> str:
    """A cell's error as others may have it too.

    Hints that name its directory (`...; replay: python scripts/replay.py bundle=SWEEP/CELL/crash/step-000001.pt`) are
    left out, and where the error itself names it, CELL stands for the name.
    """
    first, *hints = cell.error.split("; ")
    name = cell.folder.name
    return "; ".join([first.replace(name, "CELL"), *(hint for hint in hints if name not in hint)])


def cells_of(count: int) -> str:
    """A number of cells in words: `1 cell`, `2 cells`."""
    return f"{count} cell{'s' * (count != 1)}"


def update_record(folder: Path, **changes: Any) -> None:
    """Change what `cell.json` says."""
    write_json(folder / RECORD, {**read_json(folder / RECORD), **changes})


def cell_lock(folder: Path) -> Ownership:
    """What a cell holds while it runs, wherever it runs."""
    return Ownership(folder, CELL, patience=LOCK_PATIENCE)
