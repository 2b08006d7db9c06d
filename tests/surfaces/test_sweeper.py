"""The sweeper `surface`: a grid from one training, what a second command does, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import nelbo
from nelbo.errors import ConfigError
from nelbo.finished.run import FinishedRun
from nelbo.surfaces.grid import NAMES, Grid, complete, keep_chosen, read_grid
from nelbo.surfaces.measured import KEYS
from nelbo.surfaces.sweep import measure
from nelbo.sweeps.cells.record import Plan, read_cells
from tests.helpers.forks import Done
from tests.helpers.sweep_directories import scores, write_sweep
from tests.helpers.sweeps import processes_in, records, start_sweep, stop, sweep, wait_for

TRAINING = ("model=linear_vae", "data=digits", "likelihood=gaussian_fixed", "callbacks=none", "logger=none")
SURFACE = (*TRAINING, "trainer=smoke", "hydra/sweeper=surface")
GRID = ("model.latent_dim=2,4", "objective.beta=2,0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surface") / "one grid"


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    done = sweep(folder, *SURFACE, *GRID)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def copied(done: Done, folder: Path, tmp_path: Path) -> Path:
    """A copy of the directory, for commands that change it."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def settings(folder: Path) -> list[tuple[int, float]]:
    return [(int(row["model.latent_dim"]), float(row["objective.beta"])) for row in rows(folder)]


def trainings(folder: Path) -> dict[Path, int]:
    """The checkpoints of all trainings in a directory, with the times at which they were written."""
    return {file: file.stat().st_mtime_ns for file in folder.glob("training/*/checkpoints/*.ckpt")}


def results(folder: Path) -> dict[Path, bytes]:
    """The files of cells and plans, with their contents; not the report, which every command writes again."""
    files = [file for name in ("*.json", "*/*.json", "*/*/*.json") for file in folder.glob(name)]
    return {file: file.read_bytes() for file in files if file.name != "results.json"}


def grid(*overrides: str) -> Grid:
    return read_grid(OverridesParser.create().parse_overrides(list(overrides)))


def test_the_results_of_a_grid_are_those_of_one_model_at_each_setting(done: Done, folder: Path) -> None:
    (training,) = folder.glob("training/*/metrics.json")
    assert training.parent.name.startswith("nesting=uniform,rates=modulated,latent_dim=4-")
    assert settings(folder) == [(2, 0.5), (2, 2), (4, 0.5), (4, 2)]
    run = FinishedRun.open(training.parent)
    x = run.data.present("test", run.data.splits["test"].__getitems__(torch.arange(297))).x
    model = nelbo.load(training.parent)
    for row, (latent_dim, beta) in zip(rows(folder), settings(folder), strict=True):
        assert row["trained_in"] == str(training.parent) and row["test/images"] == "297" == row["test_images"]
        with torch.no_grad():
            trace = model.at(latent_dim=latent_dim, beta=beta).trace(x, 1)
        assert float(row["test/kl"]) == pytest.approx(float(trace.kl.double().mean()), rel=1e-5)
        assert int(float(row["test/active_units"])) == latent_dim
    assert len({row["test/kl"] for row in rows(folder)}) == 4
    page = (folder / "report.html").read_text()
    assert f"All settings are of one training, {training.parent}" in page
    assert {"rates=none", "nesting=none"} <= set(read_cells(folder)[0].overrides)


def test_the_log_says_that_it_is_one_training_and_where_the_results_are(done: Done, folder: Path) -> None:
    assert "one training for 4 settings: model=linear_vae" in done.stderr
    assert "may differ a little from those of a training of its own" in done.stderr
    assert "1 cell, 1 to run" in done.stderr
    assert f"results: {folder / 'results.csv'}; page: {folder / 'report.html'}" in done.stderr
    assert "Traceback" not in done.stderr and "could not be written" not in done.stderr


def test_the_same_command_again_neither_trains_nor_measures(done: Done, folder: Path) -> None:
    before = trainings(folder), results(folder / "training"), [file.stat().st_mtime_ns for file in results(folder)]
    again = sweep(folder, *SURFACE, *GRID)
    assert again.returncode == 0 and "1 cell, 0 to run" in again.stderr, again.stderr
    assert "all 4 settings are measured" in again.stderr and "measuring" not in again.stderr
    written = [file.stat().st_mtime_ns for file in results(folder) if file != folder / "training" / "sweep.json"]
    assert trainings(folder) == before[0] and set(written) <= set(before[2])
    assert settings(folder) == [(2, 0.5), (2, 2), (4, 0.5), (4, 2)]


def test_a_grid_that_the_training_covers_is_measured_alone(copied: Path) -> None:
    """In a directory that was moved, so that the results name the training where it is now."""
    before = trainings(copied)
    grown = sweep(copied, *SURFACE, "model.latent_dim=range(3,5)", "objective.beta=0.5,10,0.01", "trainer=smoke")
    assert grown.returncode == 0 and "1 cell, 0 to run" in grown.stderr, grown.stderr
    assert trainings(copied) == before
    assert settings(copied) == [(k, beta) for k in (3, 4) for beta in (0.01, 0.5, 10)]
    assert {Path(row["trained_in"]).parent for row in rows(copied)} == {copied / "training"}
    assert len(list(copied.glob("*/cell.json"))) == 6


@pytest.mark.slow
def test_a_wider_grid_is_trained_again_and_the_first_training_stays(copied: Path) -> None:
    first = trainings(copied)
    wider = sweep(copied, *SURFACE, "sweep=rate_distortion", "objective.beta=0.005,20", "model.latent_dim=4")
    assert wider.returncode == 0 and "1 cell, 1 to run" in wider.stderr, wider.stderr
    assert trainings(copied).items() > first.items()
    assert [float(row["objective.beta"]) for row in rows(copied)] == [0.005, 20]
    (trained,) = {Path(row["trained_in"]) for row in rows(copied)}
    rates = json.loads((trained / "cell.json").read_text())["config"]["model"]["rates"]
    assert (rates["lowest"], rates["highest"]) == (0.005, 20)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.latent_dim=2,4", "seed=1,2"], "seed=1,2: hydra/sweeper=surface takes several values of model.latent_"),
        (["model=linear_vae,mlp_vae"], "model=linear_vae,mlp_vae: hydra/sweeper=surface takes several values of "),
        (["model.latent_dim=4"], "hydra/sweeper=surface: has nothing to sweep; give several values, such as "),
        (["objective.beta=1,2", "rates=none"], "rates=none: is for one value of objective.beta, which has several; "),
        (["objective.beta=1,20", "rates=many", "model.rates.highest=10"], "model.rates.highest=10: objective.beta=20"),
    ],
)
def test_a_command_that_is_refused_writes_nothing(tmp_path: Path, overrides: list[str], message: str) -> None:
    refused = sweep(tmp_path / "new", *SURFACE, *overrides)
    assert refused.returncode == 2 and refused.stderr.startswith(f"error: {message}"), refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("cell.json")) and not list(tmp_path.rglob("results.csv"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1,2"], "hydra/sweeper=grid trains a model for each"),
        (["+objective.beta=1,2", "+more=1,2"], r"\+more=1,2: hydra/sweeper=surface takes several values of model.lat"),
        (["nesting=uniform,geometric", "model.latent_dim=1,2"], "nesting=uniform,geometric: hydra/sweeper=surface"),
        (
            ["objective.beta=interval(0.1,1)"],
            "objective.beta=interval.*: must be a list of numbers; hydra/sweeper=grid",
        ),
        (["model.latent_dim=range(1,1)"], "model.latent_dim=range.*: must be a list of numbers"),
        (["objective.beta=0,1"], "objective.beta=0: must be a finite number above 0"),
        (["objective.beta=inf,1"], "objective.beta=inf: must be a finite number above 0"),
        (["objective.beta=a,1"], "objective.beta=a: must be a finite number above 0"),
        (["objective.beta='2',1"], "objective.beta='2': must be a finite number above 0"),
        (["objective.beta=1,{linear:{steps:10}}"], "must be a finite number above 0"),
        (["model.latent_dim=2,2.5"], "model.latent_dim=2.5: must be a whole number of at least 1"),
        (["model.latent_dim=0,2"], "model.latent_dim=0: must be a whole number of at least 1"),
        (["model.latent_dim=true,2"], "model.latent_dim=true: must be a whole number of at least 1"),
        (["model.latent_dim=1,2", "nesting=none"], "leave nesting=none out, or hydra/sweeper=grid trains a model"),
        (["objective.beta=1,2", "~rates"], "rates=none: is for one value of objective.beta"),
        (["model.latent_dim=[2,4]"], "has nothing to sweep"),
        ([], "has nothing to sweep"),
    ],
)
def test_what_is_no_grid_from_one_training_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid(*overrides)


def test_the_overrides_of_the_training() -> None:
    both = grid("data=digits", "model.latent_dim=8,2", "objective.beta=choice(4,1,4.0)")
    assert both.axes == {"latent_dim": (2, 8), "beta": (1.0, 4.0)} and both.size == 4
    assert both.overrides == ["data=digits", "nesting=uniform", "rates=modulated", "model.latent_dim=8"]
    betas = grid("objective.beta=range(0.5,2,0.5)", "model.latent_dim=5", "nesting=geometric")
    assert betas.axes == {"beta": (0.5, 1.0, 1.5)}
    assert betas.overrides == ["model.latent_dim=5", "nesting=geometric", "rates=modulated"]
    latents = grid("++model.latent_dim=1,3", "objective.beta={linear:{steps:10}}", "nesting=geometric")
    assert list(latents.axes) == ["latent_dim"]
    assert latents.overrides == ["objective.beta={linear:{steps:10}}", "nesting=geometric", "model.latent_dim=3"]


def test_an_option_that_an_experiment_chose_stays() -> None:
    both = grid("experiment=mine", "model.latent_dim=8,2", "objective.beta=1,4", "model.rates.lowest=0.1")
    assert both.without_settings == ["experiment=mine", "model.latent_dim=8"]
    for nothing in ({}, {"nesting": "none", "rates": None}):
        assert keep_chosen(both, nothing) == both
    chosen = keep_chosen(both, {"nesting": "geometric", "rates": "none"})
    assert chosen.overrides == ["experiment=mine", "model.rates.lowest=0.1", "rates=modulated", "model.latent_dim=8"]
    assert keep_chosen(grid("rates=many", "objective.beta=1,4"), {"rates": "many"}).overrides == ["rates=many"]


@pytest.mark.slow
def test_the_options_of_an_experiment_are_trained(tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    own = "# @package _global_\ndefaults:\n  - override /rates: modulated\n  - override /nesting: geometric\n"
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(own)
    done = sweep(tmp_path / "grid", *SURFACE, *GRID, "experiment=own", "--config-dir", str(tmp_path / "conf"))
    assert done.returncode == 0, done.stderr
    (cell,) = (tmp_path / "grid").glob("training/*/cell.json")
    model = json.loads(cell.read_text())["config"]["model"]
    assert model["rates"]["layers"] == "modulation" and model["nesting"]["decay"] == 0.9
    assert settings(tmp_path / "grid") == [(2, 0.5), (2, 2), (4, 0.5), (4, 2)]


def test_the_owner_is_touched_at_each_setting(copied: Path) -> None:
    (training,) = copied.glob("training/*/metrics.json")
    touched: list[int] = []
    measure(training.parent, copied, grid("model.latent_dim=4,1", "objective.beta=1,2"), (), lambda: touched.append(1))
    assert len(touched) >= 4
    assert settings(copied) == [(1, 1), (1, 2), (4, 1), (4, 2)]


def test_the_last_override_of_a_key_counts() -> None:
    assert grid("seed=1,2", "objective.beta=1,2", "seed=3").overrides == ["seed=3", "rates=modulated"]
    assert grid("model.latent_dim=2,4", "objective.beta=1,2", "model.latent_dim=8").axes == {"beta": (1, 2)}
    assert grid("model.latent_dim=2", "model.latent_dim=1,2").overrides == ["nesting=uniform", "model.latent_dim=2"]


def test_the_keys_of_a_grid_are_those_of_the_results() -> None:
    assert {name: key for key, name in NAMES.items()} == KEYS


@pytest.mark.parametrize(
    ("betas", "wider"),
    [
        ("0.01,10", []),
        ("0.5,1", []),
        ("0.001,1", ["model.rates.lowest=0.001"]),
        ("1,12.3456789", ["model.rates.highest=12.3456789"]),
    ],
)
def test_the_interval_of_betas_is_widened_and_never_narrowed(betas: str, wider: list[str]) -> None:
    requested = grid(f"objective.beta={betas}")
    config = OmegaConf.create({"model": {"rates": {"lowest": 0.01, "highest": 10.0}}, "objective": {"beta": 1.0}})
    assert complete(requested, config) == ["rates=modulated", *wider]


def test_an_interval_that_was_typed_must_contain_the_grid() -> None:
    config = OmegaConf.create({"model": {"rates": {"lowest": 0.1, "highest": 10.0}}})
    typed = ("rates=many", "model.rates.lowest=0.1")
    assert complete(grid("objective.beta=0.1,1", *typed), config) == list(typed)
    with pytest.raises(ConfigError, match="model.rates.lowest=0.1: objective.beta=0.05 lies outside"):
        complete(grid("objective.beta=0.05,1", *typed), config)


def test_a_config_must_not_multiply_the_swept_betas() -> None:
    rates = {"rates": {"lowest": 0.01, "highest": 10.0}}

    def job(beta: object, *overrides: str) -> list[str]:
        config = OmegaConf.create({"model": rates, "objective": {"beta": beta}})
        return complete(grid(*overrides), config)

    assert job({"linear": {"steps": 2000}}, "objective.beta=1,2") == ["rates=modulated"]
    assert job(4, "model.latent_dim=1,2", "objective.beta=4")[0] == "objective.beta=4"
    for beta in (4, {"linear": {"steps": 2000, "end": 0.5}}):
        with pytest.raises(
            ConfigError, match="objective.beta=.*is set by a config and would multiply the swept values"
        ):
            job(beta, "objective.beta=1,2")


def test_the_directory_of_a_sweep_is_refused(tmp_path: Path) -> None:
    write_sweep(tmp_path, [{"overrides": ["seed=1"], "metrics": scores(1, 2)}])
    before = results(tmp_path)
    refused = sweep(tmp_path, *SURFACE, *GRID)
    last = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2
    assert last == f"error: hydra.sweep.dir={tmp_path}: holds a sweep; give another directory"
    assert results(tmp_path) == before and not (tmp_path / "training").exists()


def test_a_sweep_with_another_sweeper_is_refused_in_the_directory_of_a_surface(copied: Path) -> None:
    before, trained = results(copied), trainings(copied)
    refused = sweep(copied, *TRAINING, "trainer=smoke", *GRID)
    last = refused.stderr.splitlines()[-1]
    assert refused.returncode == 2
    assert last.startswith(f"error: hydra.sweep.dir={copied}: holds the settings of one training")
    assert results(copied) == before and trainings(copied) == trained


@pytest.mark.slow
def test_the_settings_of_another_run_are_not_replaced(copied: Path) -> None:
    """Such as those in the folder `surface` of a run."""
    shutil.rmtree(copied / "training")
    before = results(copied)
    refused = sweep(copied, *SURFACE, *GRID)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].endswith("holds the settings of another training; give another directory")
    assert results(copied) == before


@pytest.mark.slow
def test_a_training_that_fails_leaves_earlier_results(copied: Path) -> None:
    before = results(copied)
    failed = sweep(copied, *SURFACE, *GRID, "prior=mixture")
    assert failed.returncode == 2 and "does not go with rates=many; use prior=standard_normal" in failed.stderr
    after = results(copied)
    assert {
        file: after[file] for file in before if file != copied / "training" / "sweep.json"
    }.items() <= before.items()
    assert len(Plan.read(copied).cells) == 4


@pytest.mark.slow
def test_a_stopped_training_is_resumed_by_the_same_command(tmp_path: Path) -> None:
    long = (*TRAINING, "hydra/sweeper=surface", "trainer=cpu", "trainer.max_epochs=600", *GRID)
    process = start_sweep(tmp_path, *long)
    wait_for(lambda: list(tmp_path.glob("training/*/checkpoints/last.ckpt")))
    other = sweep(tmp_path, *long)
    assert other.returncode == 2 and "another sweep is running in it" in other.stderr
    _, stderr = stop(process, signal.SIGINT)
    assert process.returncode == 128 + signal.SIGINT, stderr
    hint = stderr.splitlines()[-1]
    assert hint.startswith("stopped by SIGINT; to run the remaining cells: python train.py -m ")
    assert hint.endswith(f"hydra.sweep.dir={tmp_path}") and not (tmp_path / "results.csv").exists()
    assert [record["state"] for record in records(tmp_path / "training").values()] == ["stopped"]
    assert not processes_in(tmp_path)
    again = sweep(tmp_path, *long)
    assert again.returncode == 0, again.stderr
    (log,) = tmp_path.glob("training/*/train.log")
    assert "resuming" in log.read_text() and len(rows(tmp_path)) == 4
