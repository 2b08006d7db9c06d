"""Results of a run at many settings, as a directory like that of a sweep; three tiny runs, trained once."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.finished.run import FinishedRun
from nelbo.surfaces import write
from nelbo.surfaces.write import is_complete, is_written, write_surface
from nelbo.sweeps.cells.record import Plan, read_cells
from nelbo.sweeps.report.origin import Origin
from tests.helpers.sweep_directories import scores, write_sweep
from tests.helpers.sweeps import sweep

TRAINING = (
    "model=linear_vae", "data=digits", "likelihood=gaussian_fixed", "trainer=smoke", "callbacks=none", "logger=none",
    "model.latent_dim=3",
)  # fmt: skip
AXES = {"latent_dim": (1, 3), "beta": (0.5, 2.0)}
SAMPLES = 100


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs for many betas, numbers of latents, both and neither; as cells of a sweep, which writes no surface."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    done = sweep(folder, *TRAINING, "rates=none,many", "nesting=none,uniform")
    assert done.returncode == 0, done.stderr
    names = {"rates=none,nesting=none": "neither", "rates=many,nesting=none": "rates"}
    names |= {"rates=none,nesting=uniform": "nesting", "rates=many,nesting=uniform": "both"}
    return {names[cell.folder.name.rpartition("-")[0]]: cell.folder for cell in read_cells(folder)}


@pytest.fixture(scope="module")
def both(runs: dict[str, Path]) -> FinishedRun:
    return FinishedRun.open(runs["both"])


@pytest.fixture(scope="module")
def report(both: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of four settings, on all images."""
    folder = tmp_path_factory.mktemp("both") / "report"
    assert write_surface(both, folder, AXES, limit=None) == folder / "report.html"
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_report_has_a_row_for_each_setting_and_says_that_they_are_of_one_training(
    both: FinishedRun, report: Path
) -> None:
    settings = [(int(row["model.latent_dim"]), float(row["objective.beta"])) for row in rows(report)]
    assert settings == [(1, 0.5), (1, 2), (3, 0.5), (3, 2)]
    assert {row["trained_in"] for row in rows(report)} == {str(both.folder)}
    assert {(row["state"], row["test/images"], row["steps"]) for row in rows(report)} == {("done", "297", "5")}
    page = (report / "report.html").read_text()
    assert f"All settings are of one training, {both.folder}" in page and "297 of 297 test images" in page
    origin = Origin.read(report)
    assert origin is not None and origin.checkpoint == both.sha256
    assert [(report / picture.file).is_file() for picture in origin.pictures] == [True, True]
    for cell in read_cells(report):
        assert {file.name for file in (cell.folder / "pictures").iterdir()} == {"samples.png", "reconstructions.png"}
        assert {"rates=none", "nesting=none", "model=linear_vae"} <= set(cell.overrides)
        assert "rates" not in cell.config["model"] and "nesting" not in cell.config["model"]
    assert is_written(both, report, AXES, limit=None)
    assert not is_written(both, report, AXES, limit=100)
    assert not is_written(both, report, {**AXES, "beta": (0.5,)}, limit=None)


def test_the_metrics_of_a_cell_are_those_of_the_model_at_its_setting(both: FinishedRun, report: Path) -> None:
    x = both.data.present("test", both.data.splits["test"].__getitems__(torch.arange(297))).x
    model = both.model.cpu()
    for cell in read_cells(report):
        latent_dim, beta = int(cell.config["model"]["latent_dim"]), float(cell.config["objective"]["beta"])
        bound = model.at(latent_dim=latent_dim, beta=beta)
        with torch.no_grad():
            trace = bound.trace(x, SAMPLES)
            means = bound.encode(x).mean
        metrics = cell.metrics
        assert metrics["test/kl"] == pytest.approx(float(trace.kl.double().mean()), rel=1e-5)
        assert metrics["test/active_units"] == int((means.var(0) > 0.01).sum()) == latent_dim
        distortion = -trace.log_px.double()
        error = math.sqrt(float(distortion.var(0).mean()) / len(x) * (1 + 1 / SAMPLES))
        assert abs(metrics["test/reconstruction"] - float(distortion.mean())) < 4 * error < 3
        assert metrics["test/nelbo"] == pytest.approx(metrics["test/kl"] + metrics["test/reconstruction"])
    kls = {cell.metrics["test/kl"] for cell in read_cells(report)}
    assert len(kls) == 4


def test_a_run_for_many_betas_keeps_its_number_of_latents(runs: dict[str, Path], tmp_path: Path) -> None:
    run = FinishedRun.open(runs["rates"])
    write_surface(run, tmp_path / "report", {"beta": (0.5, 0.123456789)}, limit=50)
    assert [float(row["objective.beta"]) for row in rows(tmp_path / "report")] == [0.5, 0.123456789]
    assert "model.latent_dim" not in rows(tmp_path / "report")[0]
    for cell in read_cells(tmp_path / "report"):
        assert "model.latent_dim=3" in cell.overrides and cell.config["model"]["latent_dim"] == 3
        assert cell.metrics["test/images"] == 50 and cell.metrics["test/active_units"] == 3
    assert "model.at(beta=...)" in (tmp_path / "report" / "report.html").read_text()


def test_a_run_for_many_numbers_of_latents_has_one_beta(runs: dict[str, Path], tmp_path: Path) -> None:
    run = FinishedRun.open(runs["nesting"])
    write_surface(run, tmp_path / "report", limit=50)
    assert [(row["model.latent_dim"], row["test/active_units"]) for row in rows(tmp_path / "report")] == [
        ("1", "1.0"), ("2", "2.0"), ("3", "3.0"),
    ]  # fmt: skip
    assert "objective.beta" not in rows(tmp_path / "report")[0]
    assert all(cell.config["objective"]["beta"] == 1 for cell in read_cells(tmp_path / "report"))


def test_a_run_that_was_trained_for_one_setting_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was not trained for many settings; train it with rates=many"):
        write_surface(FinishedRun.open(runs["neither"]), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_the_directory_of_a_sweep_is_refused(both: FinishedRun, tmp_path: Path) -> None:
    write_sweep(tmp_path, [{"overrides": ["seed=1"], "metrics": scores(1, 2)}])
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="holds a sweep; give another directory"):
        write_surface(both, tmp_path, AXES)
    assert contents(tmp_path) == before


def test_a_second_report_replaces_the_first_unless_it_is_refused(both: FinishedRun, tmp_path: Path) -> None:
    first, second = {"beta": (0.5, 2.0)}, {"latent_dim": (1, 2)}
    write_surface(both, tmp_path, first, limit=20)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match="latent_dim=4: must be at most 3"):
        write_surface(both, tmp_path, {"latent_dim": (2, 4)}, limit=20)
    assert contents(tmp_path) == before and is_written(both, tmp_path, first, limit=20)
    write_surface(both, tmp_path, second, limit=20)
    assert [row["model.latent_dim"] for row in rows(tmp_path)] == ["1", "2"]
    assert sorted(path.parent.name.rpartition("-")[0] for path in tmp_path.glob("*/metrics.json")) == [
        "latent_dim=1", "latent_dim=2",
    ]  # fmt: skip
    assert is_written(both, tmp_path, second, limit=20) and not is_written(both, tmp_path, first, limit=20)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["write_origin", "write_cell", "write_report"])
def test_a_report_that_was_cut_off_is_not_complete_and_is_written_again(
    both: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    axes = {"beta": (1.0,)}
    write_surface(both, tmp_path, axes, limit=20)
    assert is_complete(tmp_path, both.sha256)

    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(write, step, cut_off)
        write_surface(both, tmp_path, axes, limit=20)
    assert not is_complete(tmp_path, both.sha256)
    write_surface(both, tmp_path, axes, limit=20)
    assert is_complete(tmp_path, both.sha256) and len(Plan.read(tmp_path).cells) == 1


def test_a_directory_is_shown_relative_to_the_current_one(
    both: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(both.folder.parent)
    write_surface(both, tmp_path / "report", {"beta": (1.0,)}, limit=20)
    (metrics,) = (tmp_path / "report").glob("*/metrics.json")
    assert json.loads(metrics.read_text())["trained_in"] == os.path.relpath(both.folder)
