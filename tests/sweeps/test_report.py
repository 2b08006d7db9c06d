"""The report of a sweep, on directories that were written without training."""

from __future__ import annotations

import csv
import json
import math
import runpy
import time
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from nelbo.sweeps.callback import ReportCallback
from nelbo.sweeps.cells.values import parse
from nelbo.sweeps.report.cell_table import pareto, read_table
from nelbo.sweeps.report.scales import digits
from nelbo.sweeps.report.write import say_best, write_report
from tests.helpers.forks import ROOT, forked, python
from tests.helpers.sweep_directories import scores, write_sweep

VOID = {"meta", "img", "br"}
SMALL = [
    {
        "overrides": [f"model.latent_dim={d}", f"objective.beta={b}", f"seed={s}"],
        "metrics": scores(d / b, 10 * b / d + s - d / 10),
    }
    for d, b, s in product((2, 4), (0.5, 1, 4), (1, 2))
]


class Page(HTMLParser):
    """Checks that tags close in order; keeps addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(sweep: Path) -> Page:
    page = Page(write_report(sweep).read_text())
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    return page


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def cell(*overrides: str, **more: Any) -> dict[str, Any]:
    return {"overrides": overrides, "metrics": scores(3, 4), **more}


def test_a_grid_has_a_table_and_all_figures(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", SMALL, strips=True)
    page = read_page(sweep)
    found = rows(sweep)
    swept, metrics = ["model.latent_dim", "objective.beta", "seed"], ["test/nelbo", "test/kl", "test/reconstruction"]
    columns = list(found[0])
    assert columns[:6] == swept + metrics and columns[-3:] == ["state", "error", "directory"]
    assert columns.index("test/active_units") < columns.index("val/nelbo") < columns.index("train_seconds")
    assert len(found) == 12 and {row["state"] for row in found} == {"done"}
    assert [float(row["test/nelbo"]) for row in found] == [c["metrics"]["test/nelbo"] for c in SMALL]
    figures = {file.stem for file in (sweep / "report").glob("*.png")}
    heat_maps = {f"heat_map_{name}" for name in ("nelbo", "active_units", "kl", "reconstruction")}
    assert figures == {"rate_distortion", "learning_curves", *heat_maps}
    for figure in figures:
        with Image.open(sweep / "report" / f"{figure}.png") as picture:
            assert picture.width > 500 and len(picture.convert("L").getcolors() or []) > 20
    assert len(page.addresses) == len(figures) + 6  # a strip for one seed of each setting
    # Rate 4 and distortion 2.5 + (1 or 2) - 0.4.
    assert "Best: model.latent_dim=4, objective.beta=1: test/nelbo = 7.60 ± 0.71 nats per image, 2 seeds" in page.text
    assert "python train.py -m model.latent_dim=4 objective.beta=1 seed=1,2" in page.text
    assert "12 of 12 cells done" in page.text
    told = json.loads((sweep / "results.json").read_text())
    best = told["best"]
    assert best["cells"] == [found[8]["directory"], found[9]["directory"]] and best["mean"] == pytest.approx(7.6)
    assert told["axes"]["objective.beta"] == [0.5, 1, 4]
    assert len(told["cells"]) == 12


def by_seed(beta: int, validation: float, *nelbos: float) -> list[dict[str, Any]]:
    """Cells of one setting, a seed each, all with the same validation score."""
    return [
        cell(f"objective.beta={beta}", f"seed={seed}", metrics=scores(1, nelbo - 1) | {"val/nelbo": validation})
        for seed, nelbo in enumerate(nelbos)
    ]


def test_the_best_is_one_setting_by_the_mean_of_its_validation_everywhere(tmp_path: Path) -> None:
    """Other settings have the lowest test result of one seed and the lowest mean on test images."""
    cells = [*by_seed(1, 20, 3, 43), *by_seed(2, 10, 24, 26), *by_seed(4, 30, 14, 16)]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert "Best: objective.beta=2: test/nelbo = 25 ± 1.41 nats per image, 2 seeds" in page.text
    assert "Chosen by the mean over seeds of nelbo on validation images" in page.text
    assert "Ringed: the best setting, objective.beta=2, chosen by the mean over seeds of nelbo" in page.text
    assert "its rate + distortion is 25 nats" in page.text
    assert page.text.count("done (best setting)") == 2
    best = json.loads((sweep / "results.json").read_text())["best"]
    assert best == {
        "setting": {"objective.beta": 2},
        "metric": "test/nelbo",
        "mean": 25.0,
        "sd": pytest.approx(2**0.5),
        "cells": ["cell2-00000002", "cell3-00000003"],
    }
    assert say_best(sweep).startswith("best: objective.beta=2: test/nelbo = 25 ± 1.41 nats per image, 2 seeds")


def test_a_setting_with_missing_seeds_says_how_many_it_has(tmp_path: Path) -> None:
    cells = by_seed(1, 20, 3, 5)
    cells.append({"overrides": ["objective.beta=1", "seed=2"], "state": "failed", "error": "lost"})
    sweep = write_sweep(tmp_path / "sweep", [*cells, *by_seed(2, 30, 9, 9, 9)])
    assert "test/nelbo = 4 ± 1.41 nats per image, 2 of 3 seeds" in read_page(sweep).text


def test_a_sweep_over_seeds_alone_has_no_best_but_a_mean(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", by_seed(1, 20, 3, 5))
    page = read_page(sweep)
    assert "all cells: test/nelbo = 4 ± 1.41 nats per image, 2 seeds" in page.text and "Best: " not in page.text


def test_a_sweep_whose_cells_all_failed_says_so_in_red(tmp_path: Path) -> None:
    errors = ["<no memory>", "no disk", "<no memory>"]
    cells = [{"overrides": [f"seed={seed}"], "state": "failed", "error": error} for seed, error in enumerate(errors)]
    page = write_report(write_sweep(tmp_path / "sweep", cells)).read_text()
    message = "No cell has a result: &lt;no memory&gt; (2 cells); no disk (1 cell)."
    assert f'<p class="error">{message}</p>' in page and 'class="answer"' not in page
    assert say_best(tmp_path / "sweep") == ""


def test_seeds_are_aggregated(tmp_path: Path) -> None:
    results = {1: (1, 2, 4.5), 2: (10, 10, 10)}
    cells = [
        cell(f"objective.beta={beta}", f"seed={seed}", metrics=scores(value, 1))
        for beta, values in results.items()
        for seed, value in enumerate(values)
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    first, second = read_table(sweep).groups
    assert first.values == {"objective.beta": 1}
    assert first.mean("test/kl") == pytest.approx(2.5) and first.sd("test/kl") == pytest.approx(math.sqrt(3.25))
    assert second.mean("test/kl") == 10 and second.sd("test/kl") == 0
    assert "2.50 ± 1.80" in read_page(sweep).text


def test_a_grid_that_grew_is_one_table(tmp_path: Path) -> None:
    """Cells that were not asked for a key have it in their config, or as the option of a group."""
    cells = [
        cell("model.latent_dim=2", "trainer=cpu"),
        cell("model.latent_dim=4", "trainer=cpu"),
        cell("model.latent_dim=4", "trainer=cpu", "+optimizer.lr=0.5", "hydra.verbose=true"),
        cell("model.latent_dim=4", "trainer=cpu", "model=conv_vae", "sweep=nightly"),
        {"overrides": ["model.latent_dim=4", "trainer=cpu"], "state": "pending"},
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    table = read_table(sweep)
    assert {axis.key: axis.values for axis in table.axes} == {
        "model.latent_dim": (2, 4),
        "optimizer.lr": (0.002, 0.5),
        "model": ("conv_vae", "mlp_vae"),
    }
    write_report(sweep)
    assert [row["optimizer.lr"] for row in rows(sweep)] == ["0.002", "0.002", "0.5", "0.002", ""]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("1e-3", 1e-3), ("8", 8), ("true", True), ("null", None), ("'a b'", "a b"), ("[2, 3]", "[2,3]")],
)
def test_typed_values(text: str, value: object) -> None:
    assert parse(text) == value and type(parse(text)) is type(value)


def test_a_sweep_that_is_half_finished(tmp_path: Path) -> None:
    error = "optimizer.lr=-1: must be <positive>"
    cells = [
        cell("model.latent_dim=2", "objective.beta=1"),
        {"overrides": ["model.latent_dim=2", "objective.beta=4"], "state": "failed", "error": error},
        {"overrides": ["model.latent_dim=4", "objective.beta=1"], "state": "running"},  # and its process is gone
        {"overrides": ["model.latent_dim=4", "objective.beta=4"], "state": "pending"},
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert f"cell1-00000001: {error}" in page.text and "1 of 4 cells done; 2 failed, 1 pending" in page.text
    assert [row["state"] for row in rows(sweep)] == ["done", "failed", "failed", "pending"]
    assert rows(sweep)[1]["error"] == error
    assert "Hatched" in page.text


def test_a_sweep_without_a_result(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [{"overrides": ["seed=1"], "state": "pending"}])
    page = read_page(sweep)
    assert 'class="answer"' not in (sweep / "report.html").read_text()
    assert "No cell has finished yet" in page.text and not page.addresses
    assert rows(sweep)[0]["state"] == "pending"


def test_one_axis_is_drawn_as_lines(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [cell(f"objective.beta={beta}") for beta in (1, 2, 4)])
    read_page(sweep)
    assert {file.stem for file in (sweep / "report").glob("*.png")} == {
        "rate_distortion",
        "profiles",
        "learning_curves",
    }


def test_a_model_without_an_elbo(tmp_path: Path) -> None:
    metrics = {k: v for k, v in scores(0, 5).items() if k.rpartition("/")[2] not in ("nelbo", "kl")}
    sweep = write_sweep(tmp_path / "sweep", [cell(f"model.latent_dim={d}", metrics=metrics) for d in (2, 4)])
    page = read_page(sweep)
    assert {file.stem for file in (sweep / "report").glob("*.png")} == {"profiles"}
    assert "test/reconstruction = 5 nats" in page.text


def test_an_evaluation_is_merged_in(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", SMALL)
    for folder in sweep.glob("cell*"):
        (folder / "evaluation.json").write_text('{"test/nll": 6.25}')
    write_report(sweep)
    assert {row["test/nll"] for row in rows(sweep)} == {"6.25"} and (sweep / "report" / "heat_map_nll.png").exists()


def test_the_pareto_front() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (3.0, 5.0), (2.5, 6.0), (4.0, 1.0), (4.0, 2.0), (5.0, 1.0)]
    assert pareto(points) == [0, 1, 4]


def test_different_data_get_no_common_picture(tmp_path: Path) -> None:
    other = scores(3, 400, data="mnist", data_sha256="aaaa")
    cells = [*SMALL, *(cell("data=mnist", f"model.latent_dim={d}", metrics=other) for d in (2, 4))]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert "results of different data_sha256 are not comparable" in page.text
    assert "(best" not in page.text and page.text.count("Best: ") == 2  # one for each data set
    assert json.loads((sweep / "results.json").read_text())["best"] is None
    assert say_best(sweep).startswith("no setting is the best: results of different data_sha256")
    planes = {file.stem for file in (sweep / "report").glob("rate_distortion*")}
    assert planes == {"rate_distortion_1", "rate_distortion_2"}
    assert len(rows(sweep)) == 14


@pytest.mark.parametrize(
    ("validated", "key", "apart"),
    [
        ([(0, 200), (1, 200)], "data.seed", True),
        ([(0, 200), (0, 100)], "data.validation_size", True),
        ([(0, 200), (0, 200)], "model.latent_dim", False),  # as in every sweep that leaves the split alone
        ([(0, 0), (1, 0)], "data.seed", False),  # ranked by the test images, which are the same
    ],
)
def test_cells_that_were_validated_on_different_images_have_no_common_best(
    tmp_path: Path, validated: list[tuple[int, int]], key: str, apart: bool
) -> None:
    """A set with a test set of its own: the data's digest is the same whatever the split."""
    cells = [
        cell(f"{key}={number}", f"optimizer.lr={lr}", metrics=scores(rate, 5, split_seed=seed, val_images=images))
        for number, (seed, images) in enumerate(validated)
        for lr, rate in ((0.001, 2), (0.002, 1 + number))
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page, line = read_page(sweep), say_best(sweep)
    best = json.loads((sweep / "results.json").read_text())["best"]
    if apart:
        value = int(key != "data.seed")
        reason = f"results of different {key} are ranked by different validation images: cell0-00000000 "
        assert line.startswith(f"no setting is the best: {reason}") and best is None
        assert reason in page.text and page.text.count("Best: ") == 2  # one for each split
        assert f"digits raw, data.seed={1 - value}, data.validation_size={200 - 100 * value}" in page.text
    else:
        assert line.startswith("best: ") and best["setting"] == {key: 0, "optimizer.lr": 0.002}
        assert page.text.count("Best: ") == 1


def test_writing_again_leaves_one_event_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sweep = write_sweep(tmp_path / "sweep", SMALL)
    for _ in range(2):
        write_report(sweep)
    (events,) = (sweep / "tensorboard").glob("events.out.tfevents.*")
    board = EventAccumulator(str(events)).Reload()
    assert "sweep/rate_distortion" in board.Tags()["images"] and len(board.Tags()["images"]) == 6
    for folder in (sweep / "tensorboard").glob("cell*"):
        (file,) = folder.iterdir()
        session = EventAccumulator(str(file)).Reload()
        assert session.Scalars("test/nelbo")[0].value > 0
    keys = {frozenset(session_keys(file)) for file in (sweep / "tensorboard").glob("cell*/*")}
    assert len(keys) == 1 and {"objective.beta", "model", "seed"} <= set(next(iter(keys)))


def session_keys(file: Path) -> set[str]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            if value.tag == "_hparams_/session_start_info":
                data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                return set(data.session_start_info.hparams)
    return set()


def test_two_thousand_cells(tmp_path: Path) -> None:
    cells = [
        cell(f"model.latent_dim={d}", f"objective.beta={b / 10}", f"seed={s}", metrics=scores(d / b, b / d + s / 100))
        for d, b, s in product(range(1, 21), range(1, 21), range(5))
    ]
    sweep = write_sweep(tmp_path / "sweep", cells, strips=True, curve=20)
    started = time.perf_counter()
    page = read_page(sweep)
    assert time.perf_counter() - started < 60
    assert (sweep / "report.html").stat().st_size < 20e6 and "2000 of 2000 cells done" in page.text
    assert "100 of 2000 cells are drawn" in page.text and "The best 60 of 400 settings" in page.text


def test_the_script_says_where_and_refuses_what_is_no_sweep(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", SMALL[:2])
    done = python("scripts/report.py", f"sweep={sweep}", "watch=true")
    assert done.returncode == 0 and f"report: {sweep / 'report.html'}" in done.stdout, done.stderr
    done = forked("scripts/report.py", f"sweep={tmp_path}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["sweep=none"], [], ["sweeep=x"], ["sweep=x", "watch=7"]])
def test_the_script_refuses_bad_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "report.py"))
    with pytest.raises(SystemExit) as ended:
        script["main"](arguments)
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("error: ") and len(told.splitlines()) == 1


def test_the_callback_writes_the_report_and_leaves_other_directories_alone(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", SMALL[:2])
    (tmp_path / "other").mkdir()
    for folder in (sweep, tmp_path / "other"):
        ReportCallback().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))
    assert (sweep / "report.html").exists() and not any((tmp_path / "other").iterdir())


def test_numbers_for_people() -> None:
    assert [digits(n) for n in (-20.537, 103.21, 3.0, 0.0123, None)] == ["−20.54", "103.2", "3", "0.01", "–"]
