"""States, errors and names of cells, read from files that were written without training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nelbo.files import write_json
from nelbo.sweeps.cells.record import Plan, SweepError, cell_lock, grouped_errors, read_cell, read_cells
from tests.helpers.owners import owned_elsewhere
from tests.helpers.sweep_directories import write_sweep

IDENTITY = "a" * 16
OTHER_IDENTITY = "b" * 16


def state_with_record(folder: Path, **record: object) -> str:
    """Write `cell.json` and return the state of the cell."""
    write_json(folder / "cell.json", {"identity": IDENTITY, **record})
    return read_cell(folder, IDENTITY, []).state


def test_the_state_follows_from_record_lock_and_result(tmp_path: Path) -> None:
    assert read_cell(tmp_path, IDENTITY, []).state == "pending"
    assert state_with_record(tmp_path, state="failed", error="bad luck") == "failed"
    assert read_cell(tmp_path, IDENTITY, []).error == "bad luck"
    assert read_cell(tmp_path, OTHER_IDENTITY, []).state == "pending"  # the record is another cell's
    with cell_lock(tmp_path):
        assert state_with_record(tmp_path, state="running") == "running"
    assert state_with_record(tmp_path, state="running") == "failed"
    assert "without recording an error" in read_cell(tmp_path, IDENTITY, []).error
    metrics = tmp_path / "metrics.json"
    write_json(metrics, {"identity": OTHER_IDENTITY, "test/nelbo": 1.0})
    assert state_with_record(tmp_path, state="done") == "pending"
    write_json(metrics, {"identity": IDENTITY, "test/nelbo": 1.0})
    assert state_with_record(tmp_path, state="done") == "done" and state_with_record(tmp_path, state="failed") == "done"
    whole = metrics.read_text()
    for cut in range(len(whole) - 2):
        metrics.write_text(whole[:cut])
        assert state_with_record(tmp_path, state="done") == "pending", cut
    metrics.write_text(json.dumps([1]))
    assert state_with_record(tmp_path, state="done") == "pending"


def test_a_cell_that_runs_on_another_machine_is_running_until_its_owner_is_silent(tmp_path: Path) -> None:
    """The lock is free, because it does not reach across machines; only the owner's file shows the process."""
    owned_elsewhere(tmp_path, "cell")
    assert state_with_record(tmp_path, state="running") == "running"
    owned_elsewhere(tmp_path, "cell", seconds_ago=3600)
    assert state_with_record(tmp_path, state="running") == "failed"


def test_errors_that_differ_only_in_the_name_of_their_cell_count_as_one(tmp_path: Path) -> None:
    """Such as the errors of the guard and of a full disk; each cell keeps its whole error."""
    diverged = "training diverged at step 1 (epoch 1, batch 2): kl is nan; lower optimizer.lr"
    replay = "replay: python scripts/replay.py bundle=outputs/s/cell{0}-{0:08x}/crash/step-000001.pt"
    full = "hydra.run.dir=/s/cell{0}-{0:08x}: cannot be written (No space left on device); free some space"
    errors = [f"{diverged}; {replay}"] * 3 + [full] * 2
    specifications = [
        {"overrides": [f"seed={number}"], "state": "failed", "error": error.format(number)}
        for number, error in enumerate(errors)
    ]
    cells = read_cells(write_sweep(tmp_path, specifications))
    assert grouped_errors(cells) == [
        (3, diverged),
        (2, "hydra.run.dir=/s/CELL: cannot be written (No space left on device); free some space"),
    ]
    assert cells[1].error == f"{diverged}; {replay.format(1)}"


def test_a_plan_keeps_the_directory_names_of_its_cells(tmp_path: Path) -> None:
    plan = Plan.read(tmp_path)
    assert plan.add(IDENTITY, "seed=1", ["seed=1"]) == "seed=1"
    plan.write(tmp_path)
    reread = Plan.read(tmp_path)
    assert reread.add(IDENTITY, "seed=1,objective.beta=1", ["seed=1", "objective.beta=1"]) == "seed=1"
    assert [cell.folder.name for cell in read_cells(tmp_path)] == ["seed=1"]
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        read_cells(tmp_path / "nowhere")
