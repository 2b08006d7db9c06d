"""Sweeps from the command line: which cells are run, kept or repeated, and what happens when a sweep is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from nelbo.directories.owner import Ownership
from tests.helpers.forks import forked
from tests.helpers.owners import owned_elsewhere
from tests.helpers.sweep_directories import scores, write_sweep
from tests.helpers.sweeps import SMALL, processes_in, records, results, start_sweep, stop, sweep, wait_for

LONG = ("model=mlp_vae", "data=digits", "callbacks=none", "logger=none", "trainer.max_epochs=100000")


def number_to_run(output: str) -> int:
    """Return the number of cells to run, from the log of a sweep."""
    match = re.search(r"cells, (\d+) to run", output)
    assert match, output
    return int(match[1])


def test_a_larger_grid_keeps_finished_cells_and_repeats_one_with_a_damaged_result(tmp_path: Path) -> None:
    first = sweep(tmp_path, *SMALL, "model.latent_dim=2,3", "objective.beta=1")
    assert first.returncode == 0 and number_to_run(first.stderr) == 2, first.stderr
    old = results(tmp_path)
    (damaged,) = tmp_path.glob("latent_dim=3-*/metrics.json")
    damaged.write_text(damaged.read_text()[:-20])
    grown = sweep(tmp_path, *SMALL, "model.latent_dim=2,3", "objective.beta=0.5,1.0")
    assert grown.returncode == 0 and number_to_run(grown.stderr) == 3, grown.stderr
    now = results(tmp_path)
    assert len(now) == 4 and old.items() <= now.items()  # repeated with the same result, to the last digit
    nothing = sweep(tmp_path, *SMALL, "model.latent_dim=3,2", "objective.beta=1", "trainer.accelerator=cpu")
    assert nothing.returncode == 0 and number_to_run(nothing.stderr) == 0, nothing.stderr


def test_a_result_of_another_config_does_not_count(tmp_path: Path) -> None:
    assert sweep(tmp_path, *SMALL, "seed=1,2").returncode == 0
    one, two = sorted(tmp_path.glob("seed=*/metrics.json"))
    one.write_text(two.read_text())
    again = sweep(tmp_path, *SMALL, "seed=1,2")
    assert number_to_run(again.stderr) == 1
    assert json.loads(one.read_text())["seed"] == 1


@pytest.mark.parametrize(
    ("launcher", "signum"),
    [
        ("local", signal.SIGTERM),
        ("basic", signal.SIGINT),
        pytest.param("local", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("basic", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_sweep_prints_how_to_resume(tmp_path: Path, launcher: str, signum: signal.Signals) -> None:
    process = start_sweep(tmp_path, *LONG, "seed=1,2,3", f"hydra/launcher={launcher}")
    at_once = 2 if launcher == "local" else 1
    wait_for(lambda: len(list(tmp_path.glob("*/history.csv"))) == at_once)
    _, stderr = stop(process, signum)
    assert process.returncode == 128 + signum, stderr
    assert f"stopped by {signum.name}; to run the remaining cells: python train.py -m" in stderr
    assert not list(tmp_path.glob("*/metrics.json"))
    assert [record["state"] for record in records(tmp_path).values()] == ["stopped"] * at_once
    assert not processes_in(tmp_path)


def test_cells_end_when_their_sweep_is_killed(tmp_path: Path) -> None:
    process = start_sweep(tmp_path, *LONG, "seed=1,2")
    wait_for(lambda: len(list(tmp_path.glob("*/history.csv"))) == 2)
    stop(process, signal.SIGKILL)
    wait_for(lambda: not processes_in(tmp_path), 10)


SEARCH = pytest.param(
    ("hydra/sweeper=optuna", "seed=range(1,9)"),
    marks=pytest.mark.skipif(find_spec("optuna") is None, reason="searches need the sweep extra"),
    id="search",
)


@pytest.mark.parametrize("sweeper", [pytest.param(("seed=1,2",), id="grid"), SEARCH])
def test_a_second_sweep_in_a_directory_is_refused_in_one_line(tmp_path: Path, sweeper: tuple[str, ...]) -> None:
    """The line names the process that owns the directory, and no file there changes."""
    write_sweep(tmp_path, [{"overrides": ["seed=1"], "metrics": scores(1, 2)}])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with Ownership(tmp_path, "sweep") as first:
        second = sweep(tmp_path, *SMALL, *sweeper)
    assert second.returncode == 2
    (line,) = second.stderr.splitlines()
    assert line.startswith(f"error: hydra.sweep.dir={tmp_path}: another sweep is running in it; wait for its end, or")
    assert line.endswith(f"(process {os.getpid()} on {first.owner.host}, since {str(first.owner)[-19:]})")
    after = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != "sweep.lock"}
    assert after == before


@pytest.mark.parametrize("sweeper", ["grid", "surface"])
def test_options_of_another_sweeper_are_refused_in_one_line(tmp_path: Path, sweeper: str) -> None:
    done = sweep(tmp_path / "new", *SMALL, f"hydra/sweeper={sweeper}", "+hydra.sweeper.n_trials=40", "seed=1,2")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert f"hydra.sweeper.n_trials=40: hydra/sweeper={sweeper} has no such option" in done.stderr


def test_a_cell_that_is_still_running_on_another_machine_is_not_started_again(tmp_path: Path) -> None:
    """On a node of a cluster, which the lock does not reach, after the sweep that waited for the cell has ended."""
    assert sweep(tmp_path, *SMALL, "seed=1,2").returncode == 0
    (cell,) = tmp_path.glob("seed=1-*")
    (cell / "metrics.json").unlink()
    record = json.loads((cell / "cell.json").read_text())
    (cell / "cell.json").write_text(json.dumps({**record, "state": "running", "ended": None}))
    owned_elsewhere(cell, "cell")
    again = sweep(tmp_path, *SMALL, "seed=1,2")
    assert again.returncode == 2 and number_to_run(again.stderr) == 0, again.stderr
    assert "another process is running it (process 4711 on node7, since" in again.stderr
    assert not (cell / "metrics.json").exists()


def test_the_files_in_the_directory_of_a_cell(tmp_path: Path) -> None:
    assert sweep(tmp_path, *SMALL, "model.latent_dim=2,3", "objective.beta=1,4").returncode == 0
    plan = json.loads((tmp_path / "sweep.json").read_text())
    assert len(plan["cells"]) == 4 and plan["command"][:3] == ["python", "train.py", "-m"]
    for identity, planned in plan["cells"].items():
        folder = tmp_path / planned["name"]
        assert folder.name.endswith(identity[:8])
        record, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("cell", "metrics"))
        assert record["identity"] == metrics["identity"] == identity
        assert record["config"]["model"]["latent_dim"] in (2, 3) and record["choices"]["model"] == "mlp_vae"
        assert "epoch 1/1" in (folder / "train.log").read_text() and (folder / "console.log").exists()
        rows = (folder / "history.csv").read_text().splitlines()
        assert rows[0].startswith("epoch,step,seconds,val/") and len(rows) == 2


def test_a_sweep_without_the_option_m_is_refused(tmp_path: Path) -> None:
    done = forked("train.py", "sweep=latent_beta", *SMALL, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2 and done.stderr.startswith("error: sweep=latent_beta: is for many runs, which needs -m")


@pytest.mark.parametrize(
    "invalid", ["model=mlp_vae,mlp_vea", "objective.betta=1,2", "hydra/launcher=locl", "hydra.launcher.n_jobs=0"]
)
def test_an_invalid_override_is_refused_before_any_cell_runs(tmp_path: Path, invalid: str) -> None:
    done = sweep(tmp_path, *SMALL, "seed=1,2", invalid)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("*/cell.json"))
