"""What is shown while a sweep runs, on directories that were written without training."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nelbo.directories.names import METRICS
from nelbo.sweeps import live
from nelbo.sweeps.cells.record import PLAN, RECORD
from nelbo.sweeps.live import LiveTable
from tests.helpers.sweep_directories import scores, write_sweep

LONG = "RuntimeError: " + "the same long story of what went wrong, " * 10


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty cells: 20 run, 6 failed with four errors, 4 are done."""
    states = ["running"] * 20 + ["failed"] * 6 + ["done"] * 4
    errors = dict(enumerate([LONG, LONG, LONG, "no disk", "no memory", "no [b]luck[/x]"], start=20))
    cells: list[dict[str, Any]] = [
        {
            "overrides": [f"model.latent_dim={number}", "objective.beta=1"],
            "state": state,
            "error": errors.get(number, ""),
            "metrics": scores(number, 1),
        }
        for number, state in enumerate(states)
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    for record in sweep.glob(f"*/{RECORD}"):
        if (known := json.loads(record.read_text()))["state"] == "running":
            record.write_text(json.dumps({**known, "started": time.time(), "ended": None}))
    monkeypatch.setattr("nelbo.sweeps.cells.record.living_owner", lambda folder, name: "another process")
    return sweep


def shown(sweep: Path, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as text:
        console.print(LiveTable(sweep).render(height - 1))
    return [line.rstrip() for line in text.get().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_failed_cells_take_a_line_an_error_and_leave_room_for_those_that_run(sweep: Path, width: int) -> None:
    lines = shown(sweep, width, 50)
    assert lines[0].startswith("30 cells: 4 done, 20 running, 6 failed")
    assert lines[1].startswith("3 cells failed: RuntimeError: the same long story") and lines[1].endswith("…")
    assert lines[2:5] == ["1 cell failed: no disk", "1 cell failed: no memory", "1 more error"]
    assert sum(line.startswith("running") for line in lines) == 20
    assert sum(line.startswith("done") for line in lines) == 4
    assert all(len(line) <= width for line in lines)


def test_a_low_terminal_shows_what_fits_and_how_many_more_run(sweep: Path) -> None:
    lines = shown(sweep, 80, 20)
    assert len(lines) <= 19 and lines[-1] == "8 more running"
    assert sum(line.startswith("running") for line in lines) == 12


def test_where_room_is_short_a_cells_name_is_cut_and_nothing_else(sweep: Path) -> None:
    (name,) = sweep.glob("cell0-*")
    plan, long = sweep / PLAN, f"{name.name}-{'long' * 30}"
    plan.write_text(plan.read_text().replace(name.name, long))
    name.rename(sweep / long)
    heading, *cells = shown(sweep, 80, 50)[5:]
    assert heading.split() == ["state", "cell", "epoch", "−ELBO", "time"]
    assert "…" in "".join(cells) and all(cell.split()[0] in ("running", "done") for cell in cells)


def test_cells_that_end_between_two_looks_are_counted_one_by_one(tmp_path: Path, caplog) -> None:
    cells = [{"overrides": [f"seed={seed}"], "metrics": scores(1, 2)} for seed in range(3)]
    sweep = write_sweep(tmp_path, cells)
    results = {folder: (folder / METRICS).read_bytes() for folder in sweep.glob("cell*")}
    for folder in results:
        (folder / METRICS).unlink()
    table = LiveTable(sweep)
    table.started = 0.0
    for folder, result in results.items():
        (folder / METRICS).write_bytes(result)
    with caplog.at_level("INFO"):
        table.refresh()
    assert [message.split()[0] for message in caplog.messages] == ["[1/3]", "[2/3]", "[3/3]"]


def test_errors_with_brackets_are_shown_as_they_are(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_ERRORS", 4)
    assert "1 cell failed: no [b]luck[/x]" in shown(sweep, 80, 50)
