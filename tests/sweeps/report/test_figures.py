"""Which figures a report has, and what they show."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nelbo.sweeps.report.cell_table import read_table
from nelbo.sweeps.report.curves import learning_curves
from nelbo.sweeps.report.linear import Curve, Truth
from nelbo.sweeps.report.plane import rate_distortion
from nelbo.sweeps.report.scales import scale_of
from nelbo.theory.water_filling import Optimum
from tests.helpers.report_page import GRID, figure_names, finished_cell, read_page
from tests.helpers.sweep_directories import scores, write_sweep


def test_a_grid_has_a_plane_a_heat_map_per_metric_and_curves(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", GRID)
    read_page(sweep)
    figures = figure_names(sweep)
    heat_maps = {f"heat_map_{name}" for name in ("nelbo", "active_units", "kl", "reconstruction")}
    assert figures == {"rate_distortion", "learning_curves", *heat_maps}
    for figure in figures:
        with Image.open(sweep / "report" / f"{figure}.png") as picture:
            assert picture.width > 500 and len(picture.convert("L").getcolors() or []) > 20


def test_a_single_axis_gets_lines_in_place_of_heat_maps(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [finished_cell(f"objective.beta={beta}") for beta in (1, 2, 4)])
    read_page(sweep)
    assert figure_names(sweep) == {"rate_distortion", "profiles", "learning_curves"}


def test_a_model_without_an_elbo(tmp_path: Path) -> None:
    metrics = {k: v for k, v in scores(0, 5).items() if k.rpartition("/")[2] not in ("nelbo", "kl")}
    cells = [finished_cell(f"model.latent_dim={d}", metrics=metrics) for d in (2, 4)]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert figure_names(sweep) == {"profiles"}
    assert "test reconstruction = 5 nats" in page.text


def test_values_that_look_like_formulas_are_drawn_as_text(tmp_path: Path) -> None:
    """A pair of dollar signs would start Matplotlib's formulas, and an invalid formula would end the report."""
    cells = [
        finished_cell(f"model.latent_dim={d}", rf"data.root='$\frac$_{letter}'") for d in (2, 4) for letter in "ab"
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    assert r"$\frac$_a" in read_page(sweep).text
    assert "heat_map_nelbo" in figure_names(sweep)


@pytest.mark.parametrize(("rate", "visible"), [(3.0, True), (300.0, False)])
def test_the_caption_tells_whether_the_exact_answer_is_within_the_figure(
    tmp_path: Path, rate: float, visible: bool
) -> None:
    table = read_table(write_sweep(tmp_path / "sweep", [finished_cell(f"objective.beta={beta}") for beta in (1, 2)]))
    curve = Curve(2, 0.1, [1.0], [Optimum(rate=rate, error=1.0, active=2, distortion=4.0)])
    picture = rate_distortion(table, scale_of(table), Truth([curve]))
    assert picture is not None and ("Orange (outside the figure)" in picture.caption) is not visible


def test_a_single_epoch_is_labelled_with_a_whole_number(tmp_path: Path) -> None:
    cells = [finished_cell(f"objective.beta={beta}") for beta in (1, 2)]
    table = read_table(write_sweep(tmp_path / "sweep", cells, curve=1))
    picture = learning_curves(table, scale_of(table))
    assert picture is not None
    assert [tick for tick in picture.figure.axes[0].get_xticks() if 0 < tick < 2] == [1]
