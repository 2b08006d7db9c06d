"""The table of a sweep's cells: axes, groups over seeds, metrics."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nelbo.sweeps.report.cell_table import pareto, read_table
from nelbo.sweeps.report.write import write_report
from tests.helpers.report_page import GRID, finished_cell, read_page, read_rows
from tests.helpers.sweep_directories import scores, write_sweep


def test_means_and_standard_deviations_are_over_seeds(tmp_path: Path) -> None:
    results = {1: (1, 2, 4.5), 2: (10, 10, 10)}
    cells = [
        finished_cell(f"objective.beta={beta}", f"seed={seed}", metrics=scores(value, 1))
        for beta, values in results.items()
        for seed, value in enumerate(values)
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    first, second = read_table(sweep).groups
    assert first.values == {"objective.beta": 1}
    assert first.mean("test/kl") == pytest.approx(2.5) and first.sd("test/kl") == pytest.approx(math.sqrt(3.25))
    assert second.mean("test/kl") == 10 and second.sd("test/kl") == 0
    assert "2.50 ± 1.80" in read_page(sweep).text


def test_a_grid_that_was_extended_is_one_table(tmp_path: Path) -> None:
    """Cells without an override of a key have its value in their config, or as the option of a group."""
    cells = [
        finished_cell("model.latent_dim=2", "trainer=cpu"),
        finished_cell("model.latent_dim=4", "trainer=cpu"),
        finished_cell("model.latent_dim=4", "trainer=cpu", "+optimizer.lr=0.5", "hydra.verbose=true"),
        finished_cell("model.latent_dim=4", "trainer=cpu", "model=conv_vae", "sweep=nightly"),
        {"overrides": ["model.latent_dim=4", "trainer=cpu"], "state": "pending"},
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    table = read_table(sweep)
    assert {axis.key: axis.values for axis in table.axes} == {
        "model.latent_dim": (2, 4),
        "optimizer.lr": (0.002, 0.5),
        "model": ("mlp_vae", "conv_vae"),  # as they were typed
    }
    write_report(sweep)
    assert [row["optimizer.lr"] for row in read_rows(sweep)] == ["0.002", "0.002", "0.5", "0.002", ""]


def test_the_metrics_of_an_evaluation_are_included(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", GRID)
    for folder in sweep.glob("cell*"):
        (folder / "evaluation.json").write_text('{"test/nll": 6.25}')
    write_report(sweep)
    assert {row["test/nll"] for row in read_rows(sweep)} == {"6.25"}
    assert (sweep / "report" / "heat_map_nll.png").exists()


def test_the_pareto_front() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (3.0, 5.0), (2.5, 6.0), (4.0, 1.0), (4.0, 2.0), (5.0, 1.0)]
    assert pareto(points) == [0, 1, 4]
