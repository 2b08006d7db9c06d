"""The files in which a sweep and its cells record their state.

Many processes write them and others read them at the same time, so every file is replaced as a whole.

sweep.json            plan: the command, and the identity, directory and overrides of each requested cell
sweep.lock, .owner    the process that runs the sweep, recorded in the same way as that of a cell
<cell>/cell.json      record: state, error, config, choices
<cell>/cell.lock      held while the cell runs; the operating system releases it when the process ends for any reason
<cell>/cell.owner     the process that runs the cell, touched while it runs, for machines that the lock does not reach
<cell>/metrics.json   result, written last
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
"""The names under which a directory is owned: those of the lock and owner files."""

STATES = ("done", "running", "failed", "pruned", "stopped", "pending")
VANISHED = "ended without recording an error: the process was killed, or its machine went down"
CONSOLE = "console.log"
"""The file in a cell's directory that receives its stdout and stderr."""

SEARCH = "optuna.json"
"""The file in the directory of a search that lists the best trials."""

LOCK_PATIENCE = 5.0
"""Seconds that a starting cell waits for its lock, because readers hold it for a moment to test whether it is free."""


class SweepError(NelboError):
    """A sweep with failed cells, or a directory that is not one of a sweep."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell, as recorded in its directory.

    Args:
        identity: the digest of its resolved config.
        folder: its directory.
        overrides: its overrides, typed or swept, `key=value` each.
        record: the content of `cell.json`; empty before the cell starts.
    """

    identity: str
    folder: Path
    overrides: tuple[str, ...]
    record: Mapping[str, Any]

    @functools.cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`; empty if it is missing, incomplete or of another identity."""
        metrics = read_json(self.folder / METRICS)
        return metrics if metrics.get("identity") == self.identity else {}

    @functools.cached_property
    def state(self) -> str:
        """The current state, one of `STATES`."""
        if self.metrics:
            return "done"
        recorded = str(self.record.get("state", "pending"))
        if recorded == "done":  # metrics.json was removed, or belongs to another run
            return "pending"
        if recorded == "running" and living_owner(self.folder, CELL) is None:
            return "failed"
        return recorded

    @property
    def error(self) -> str:
        """The reason why the cell failed, stopped or was pruned, in one line; empty if it did not."""
        if self.state == "failed" and self.record.get("state") == "running":
            return VANISHED
        return str(self.record.get("error", "")) if self.state not in ("done", "running") else ""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config; empty before the cell starts."""
        return dict(self.record.get("config", {}))

    @property
    def seconds(self) -> float:
        """The seconds between start and end; 0 if the cell has not ended."""
        return float(self.record["ended"]) - float(self.record["started"]) if self.record.get("ended") else 0.0


@dataclasses.dataclass
class Plan:
    """The cells that all commands so far have requested in a sweep directory.

    Args:
        command: the most recent command, as typed.
        cells: the directory name and the overrides of each cell, by identity.
        newest: the identities that the most recent command requested.
        token: a unique name of the sweep, by which a search recognises its own trials in a shared study.
    """

    command: list[str] = dataclasses.field(default_factory=list)
    cells: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    newest: list[str] = dataclasses.field(default_factory=list)
    token: str = dataclasses.field(default_factory=functools.partial(secrets.token_hex, 8))

    @classmethod
    def read(cls, sweep: Path) -> Plan:
        """Read the plan of a sweep directory; an empty plan if it has none."""
        stored = read_json(sweep / PLAN)
        return cls(**{field.name: stored[field.name] for field in dataclasses.fields(cls) if field.name in stored})

    def write(self, sweep: Path) -> None:
        """Write the plan into a sweep directory."""
        write_json(sweep / PLAN, dataclasses.asdict(self))

    def add(self, identity: str, name: str, overrides: Iterable[str]) -> str:
        """Add a cell unless the plan has it already, and return its directory name.

        Args:
            identity: the digest of its resolved config.
            name: the directory name of a new cell; a cell of the plan keeps the one that it has.
            overrides: its overrides, `key=value` each.
        """
        return str(self.cells.setdefault(identity, {"name": name, "overrides": list(overrides)})["name"])


def read_cells(sweep: Path, identities: Iterable[str] | None = None) -> list[Cell]:
    """Read the cells of a sweep, in the order in which they were requested.

    Args:
        sweep: its directory.
        identities: the cells to read; all if None.

    Raises:
        SweepError: if the directory is not one of a sweep, or its plan is empty.
    """
    plan = Plan.read(sweep)
    if not plan.cells and (sweep / PLAN).exists():
        raise SweepError(f"{sweep}: its {PLAN} lists no cells: the command ended before it requested any")
    if not plan.cells:
        raise SweepError(f"{sweep}: is not the directory of a sweep (it has no {PLAN})")
    wanted = plan.cells if identities is None else identities
    return [read_cell(sweep / plan.cells[key]["name"], key, plan.cells[key]["overrides"]) for key in wanted]


def read_cell(folder: Path, identity: str, overrides: Iterable[str]) -> Cell:
    """Read one cell; a `cell.json` of another identity is ignored.

    Args:
        folder: its directory.
        identity: the digest of its resolved config.
        overrides: its overrides, `key=value` each.
    """
    record = read_json(folder / RECORD)
    return Cell(identity, folder, tuple(overrides), record if record.get("identity") == identity else {})


def grouped_errors(cells: Iterable[Cell]) -> list[tuple[int, str]]:
    """Return each distinct error with the number of cells that have it, the most frequent first.

    Errors that differ only in the directory of their cell count as one, see `shared_error`.
    """
    errors = Counter(shared_error(cell) for cell in cells if cell.error)
    return [(count, error) for error, count in errors.most_common()]


def shared_error(cell: Cell) -> str:
    """Return a cell's error without its directory name, so that it equals the same error of other cells.

    Hints with the name (`...; replay: python scripts/replay.py bundle=SWEEP/CELL/crash/step-000001.pt`) are left out;
    in the error itself the name is replaced by `CELL`.
    """
    first, *hints = cell.error.split("; ")
    name = cell.folder.name
    return "; ".join([first.replace(name, "CELL"), *(hint for hint in hints if name not in hint)])


def cells_of(count: int) -> str:
    """Return a number of cells with the noun.

    >>> cells_of(1), cells_of(2)
    ('1 cell', '2 cells')
    """
    return f"{count} cell{'s' * (count != 1)}"


def update_record(folder: Path, **changes: Any) -> None:
    """Change entries of the `cell.json` in a cell's directory."""
    write_json(folder / RECORD, {**read_json(folder / RECORD), **changes})


def cell_lock(folder: Path) -> Ownership:
    """Return the ownership of a cell's directory, to be held while the cell runs."""
    return Ownership(folder, CELL, patience=LOCK_PATIENCE)
