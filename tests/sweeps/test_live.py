"""The live table of a running sweep, on directories that were written without training."""

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
from nelbo.sweeps.live import LiveTable, duration
from tests.helpers.sweep_directories import scores, write_sweep

LONG = "RuntimeError: " + "the same long description of the error, " * 10


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty cells: 20 running, 6 failed with four different errors, 4 done."""
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
        if (content := json.loads(record.read_text()))["state"] == "running":
            record.write_text(json.dumps({**content, "started": time.time(), "ended": None}))
    monkeypatch.setattr("nelbo.sweeps.cells.record.living_owner", lambda folder, name: "another process")
    return sweep


def rendered_lines(sweep: Path, width: int, height: int) -> list[str]:
    """Return the lines of the table at a terminal of this size."""
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as text:
        console.print(LiveTable(sweep).render(height - 1))
    return [line.rstrip() for line in text.get().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_failed_cells_take_one_line_per_error_and_leave_room_for_running_cells(sweep: Path, width: int) -> None:
    lines = rendered_lines(sweep, width, 50)
    assert lines[0].startswith("30 cells: 4 done, 20 running, 6 failed")
    assert lines[1].startswith("3 cells failed: RuntimeError: the same long description") and lines[1].endswith("…")
    assert lines[2:5] == ["1 cell failed: no disk", "1 cell failed: no memory", "1 more error"]
    assert sum(line.startswith("running") for line in lines) == 20
    assert sum(line.startswith("done") for line in lines) == 4
    assert all(len(line) <= width for line in lines)


def test_a_short_terminal_shows_the_cells_that_fit_and_counts_the_rest(sweep: Path) -> None:
    lines = rendered_lines(sweep, 80, 20)
    assert len(lines) <= 19 and lines[-1] == "8 more running"
    assert sum(line.startswith("running") for line in lines) == 12


def test_in_a_narrow_terminal_only_the_names_of_cells_are_cut(sweep: Path) -> None:
    (name,) = sweep.glob("cell0-*")
    plan, long = sweep / PLAN, f"{name.name}-{'long' * 30}"
    plan.write_text(plan.read_text().replace(name.name, long))
    name.rename(sweep / long)
    heading, *cells = rendered_lines(sweep, 80, 50)[5:]
    assert heading.split() == ["state", "cell", "epoch", "negative", "ELBO", "time"]
    assert "…" in "".join(cells) and all(cell.split()[0] in ("running", "done") for cell in cells)


def test_cells_that_end_between_two_refreshes_are_counted_one_by_one(tmp_path: Path, caplog) -> None:
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


def test_errors_with_brackets_are_not_read_as_markup(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_ERRORS", 4)
    assert "1 cell failed: no [b]luck[/x]" in rendered_lines(sweep, 80, 50)


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4 s"), (99, "99 s"), (600, "10 min"), (7200, "2 h 00 min")])
def test_durations_are_rounded_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
