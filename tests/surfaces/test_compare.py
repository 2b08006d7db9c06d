"""One training for many settings beside a sweep: `nelbo report sweep=... with=...`; and `nelbo report run=...`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from nelbo.finished.run import FinishedRun
from nelbo.sweeps.report.beside import Beside, Curve, Regret, regrets_picture
from nelbo.sweeps.report.write import write_report
from tests.helpers.evaluations import train_smoke
from tests.helpers.forks import Done, train_all
from tests.helpers.sweeps import sweep

NETS = ["model=mlp_vae", "model.encoder.hidden=[16,16]", "model.decoder.hidden=[16,16]", "data=digits", "threads=1"]
MODEL = [*NETS, "data.protocol=threshold", "likelihood=bernoulli", "callbacks=none", "logger=none"]
RATES = ["rates=many", "model.rates.lowest=0.5", "model.rates.highest=5"]
BETAS = [0.5, 1, 2, 5]
"""At which a run with these rates is shown."""
REPORT = "scripts/report.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep, a run for many settings, one for many numbers of latents, and an ordinary one."""
    folder = tmp_path_factory.mktemp("compare")
    many = [*MODEL, "model.latent_dim=4", "trainer.max_steps=20"]
    train_smoke(
        folder,
        {
            "run": [*many, *RATES, "nesting=uniform"],
            "nested": [*many, "nesting=uniform", "objective.beta=2"],
            "plain": MODEL,
            "doubled": [*many, *RATES, "objective.beta=2"],
            "grey": [*NETS, "likelihood=gaussian_fixed", "nesting=uniform", "callbacks=none", "logger=none"],
        },
    )
    grid = ["model.latent_dim=2,4", "objective.beta=0.5,2,20", "trainer=smoke"]
    assert sweep(folder / "sweep", *MODEL, *grid).returncode == 0
    assert sweep(folder / "other", *MODEL, *grid[2:], "objective=beta_tc", "objective.beta=1,4").returncode == 0
    return folder


@pytest.fixture(scope="module")
def done(home: Path) -> dict[str, Done]:
    (home / "reports").mkdir()
    given = {
        "compared": [f"sweep={home / 'sweep'}", f"with={home / 'run'}"],
        "again": [f"run={home / 'run'}", "limit=50"],
        "plain": [f"run={home / 'plain'}"],
        "with_plain": [f"sweep={home / 'sweep'}", f"with={home / 'plain'}"],
        "other_objective": [f"sweep={home / 'other'}", f"with={home / 'nested'}"],
        "other_data": [f"sweep={home / 'sweep'}", f"with={home / 'grey'}"],
        "both": [f"sweep={home / 'sweep'}", f"run={home / 'run'}"],
        "run_with": [f"run={home / 'run'}", f"with={home / 'run'}"],
        "limit": [f"sweep={home / 'sweep'}", "limit=5"],
        "word": [f"run={home / 'run'}", "limit=few"],
    }
    return train_all(given, home / "reports", REPORT)


def test_the_regret_of_a_cell_is_the_difference_of_objectives_on_the_same_images(
    home: Path, done: dict[str, Done]
) -> None:
    assert done["compared"].returncode == 0, done["compared"]
    beside = Beside.read(home / "sweep")
    assert beside is not None and len(beside.regrets) == 4 and beside.left_out == 2 and beside.images == 297
    x = FinishedRun.open(home / "run").subject(split="test", device="cpu").images[torch.arange(297)]
    for regret in beside.regrets:
        latents, beta = int(regret.setting["model.latent_dim"]), regret.setting["objective.beta"]
        model = FinishedRun.open(home / "run", setting={"latent_dim": latents, "beta": beta}).model
        cell = FinishedRun.open(home / "sweep" / regret.cell).model
        with torch.no_grad():
            ours, own = model.trace(x, 100), cell.trace(x, 100)
        differences = (own.log_px - ours.log_px + beta * (ours.kl - own.kl)).mean(0) / max(1, beta)
        assert abs(regret.value - float(differences.mean())) < 3 * regret.error
        assert regret.rate == pytest.approx(float(ours.kl.mean()), rel=1e-4)  # a KL has no noise
        assert regret.cell_rate == pytest.approx(float(own.kl.mean()), rel=1e-4)
    assert {curve.latent_dim for curve in beside.curves} == {2, 4}


def test_the_report_shows_the_comparison(home: Path, done: dict[str, Done]) -> None:
    page = (home / "sweep" / "report.html").read_text()
    assert done["compared"].returncode == 0
    assert "One training for all settings" in page and "beside 4 trainings of one setting each" in page
    assert "2 cells have settings that it was not trained for" in page
    assert (home / "sweep" / "report" / "regret.png").stat().st_size > 10_000


def test_a_run_of_one_beta_is_compared_with_cells_of_that_beta(home: Path) -> None:
    (home / "nested_report").mkdir()
    given = {"nested": [f"sweep={home / 'sweep'}", f"with={home / 'nested'}"]}
    assert train_all(given, home / "nested_report", REPORT)["nested"].returncode == 0
    beside = Beside.read(home / "sweep")
    assert beside is not None and beside.left_out == 4
    assert {regret.setting["model.latent_dim"] for regret in beside.regrets} == {2, 4}
    assert [curve.latent_dim for curve in beside.curves] == [None] and len(beside.curves[0].points) == 3


def test_training_for_many_settings_ends_with_a_report_of_each(home: Path, done: dict[str, Done]) -> None:
    with (home / "run" / "surface" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * len(BETAS) and {row["state"] for row in rows} == {"done"}
    assert {row["model.latent_dim"] for row in rows} == {"1", "2", "4"}
    assert {float(row["test/images"]) for row in rows} == {50}  # of the later command, with limit=50
    assert done["again"].returncode == 0
    page = (home / "run" / "surface" / "report.html").read_text()
    assert "All settings are of one training" in page and "Samples at each setting" in page
    metrics = json.loads((home / "run" / "surface" / rows[0]["directory"] / "metrics.json").read_text())
    setting = {"latent_dim": int(rows[0]["model.latent_dim"]), "beta": float(rows[0]["objective.beta"])}
    model = FinishedRun.open(home / "run", setting=setting).model
    images = FinishedRun.open(home / "run").subject(split="val", device="cpu").images
    with torch.no_grad():
        everything = model.trace(images[torch.arange(len(images))], 1).kl
    assert abs(metrics["val/kl"] - float(everything.mean())) < 5 * float(everything.std()) / 50**0.5


def test_the_weight_of_an_objective_multiplies_the_beta_of_a_setting(home: Path) -> None:
    with (home / "doubled" / "surface" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["objective.beta"]) for row in rows] == pytest.approx([2 * beta for beta in BETAS])
    run = FinishedRun.open(home / "doubled", setting={"beta": BETAS[2]})
    subject = run.subject(split="test", device="cpu")
    with torch.no_grad():
        kl = run.model.trace(subject.images[torch.arange(297)], 1).kl
    assert float(rows[2]["test/kl"]) == pytest.approx(float(kl.mean()), rel=1e-4)


def test_what_cannot_be_compared_is_refused_in_one_line(done: dict[str, Done]) -> None:
    expected = {
        "plain": "was not trained for many settings; train it with rates=many, nesting=uniform or both",
        "with_plain": "was not trained for many settings; train it with rates=many, nesting=uniform or both",
        "other_objective": "was trained for none of the settings of",
        "other_data": "results of different protocol are not comparable",
        "both": "usage: ",
        "run_with": "with: goes with sweep=... only",
        "limit": "limit=5: goes with run=... and with=... only",
        "word": "limit=few: must be a whole number of at least 2",
    }
    for name, text in expected.items():
        assert done[name].returncode == 2 and text in done[name].stderr, done[name]
        assert len(done[name].stderr.strip().splitlines()) == 1


def test_the_summary_names_the_mean_and_the_largest_regret() -> None:
    def regret(latents: int, value: float) -> Regret:
        return Regret(f"cell{latents}", f"id{latents}", {"model.latent_dim": latents}, value, 0.1, 1.0, 2.0, 1.0, 2.0)

    beside = Beside(
        "runs/one", 100.0, 250.0, (regret(2, 0.5), regret(4, -0.25)), (Curve(None, ((1.0, 2.0),)),), 0, 297, 297
    )
    assert (
        "regret is +0.12 nats on average and +0.50 at most (model.latent_dim=2), on 297 test images" in beside.summary
    )
    assert "took 100 CPU seconds; these 2 trainings took 250, 2.5 times as many" in beside.summary


def test_cells_that_are_not_what_they_were_leave_the_comparison(home: Path) -> None:
    one, two = (
        Regret(n, n, {"objective.beta": 1.0}, value, 0.1, 1.0, 2.0, 1.0, 2.0) for n, value in (("a", 1.0), ("b", 3.0))
    )
    beside = Beside("runs/one", 1.0, 2.0, (one, two), (Curve(None, ((1.0, 2.0),)),), 0, 297, 297)
    assert beside.of_cells({"a", "b", "new"}) is beside
    kept = beside.of_cells({"b"})
    assert kept is not None and kept.regrets == (two,) and kept.cell_seconds is None
    assert beside.of_cells({"new"}) is None
    (axes,) = regrets_picture(beside).figure.axes  # of one beta, and no number of latents
    assert axes.get_xlabel() == "objective.beta" and all((line.get_xdata() > 0).any() for line in axes.lines[1:])


def test_a_sweep_without_a_comparison_has_no_such_figure(home: Path) -> None:
    (home / "sweep" / "beside.json").unlink()
    write_report(home / "sweep")
    assert not (home / "sweep" / "report" / "regret.png").exists()
