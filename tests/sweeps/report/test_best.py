"""The best setting of a sweep, in all places where a report shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nelbo.sweeps.report.write import say_best
from tests.helpers.report_page import GRID, cells_by_seed, finished_cell, read_best, read_page, read_rows
from tests.helpers.sweep_directories import scores, write_sweep


def test_the_best_setting_has_the_lowest_mean_validation_score_everywhere(tmp_path: Path) -> None:
    """Other settings have the lowest test result of a single seed, and the lowest mean on the test images."""
    cells = [*cells_by_seed(1, 20, 3, 43), *cells_by_seed(2, 10, 24, 26), *cells_by_seed(4, 30, 14, 16)]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert "Best: objective.beta=2: test negative ELBO = 25 ± 1.41 nats per image, 2 seeds" in page.text
    assert "Chosen by the mean over seeds of the negative ELBO on the validation images" in page.text
    assert "Circle: the best setting, objective.beta=2, chosen by the mean over seeds of the neg" in page.text
    assert "its rate + distortion is 25 nats" in page.text
    assert page.text.count("done (best setting)") == 2
    assert read_best(sweep) == {
        "setting": {"objective.beta": 2},
        "metric": "test/nelbo",
        "mean": 25.0,
        "sd": pytest.approx(2**0.5),
        "cells": ["cell2-00000002", "cell3-00000003"],
    }
    assert say_best(sweep).startswith("best: objective.beta=2: test negative ELBO = 25 ± 1.41 nats per image, 2 seeds")


def test_a_setting_with_missing_seeds_shows_how_many_it_has(tmp_path: Path) -> None:
    cells = cells_by_seed(1, 20, 3, 5)
    cells.append({"overrides": ["objective.beta=1", "seed=2"], "state": "failed", "error": "lost"})
    sweep = write_sweep(tmp_path / "sweep", [*cells, *cells_by_seed(2, 30, 9, 9, 9)])
    assert "test negative ELBO = 4 ± 1.41 nats per image, 2 of 3 seeds" in read_page(sweep).text


def test_a_sweep_over_seeds_alone_has_no_best_but_a_mean(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", cells_by_seed(1, 20, 3, 5))
    text = read_page(sweep).text
    assert "all cells: test negative ELBO = 4 ± 1.41 nats per image, 2 seeds" in text and "Best: " not in text


def test_cells_of_different_data_have_no_common_best_and_no_common_figure(tmp_path: Path) -> None:
    other = scores(3, 400, data="mnist", data_sha256="aaaa")
    cells = [*GRID, *(finished_cell("data=mnist", f"model.latent_dim={d}", metrics=other) for d in (2, 4))]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert "results of different data_sha256 are not comparable" in page.text
    assert "(best" not in page.text and page.text.count("Best: ") == 2  # one for each data set
    assert read_best(sweep) is None
    assert say_best(sweep).startswith("no setting is the best: results of different data_sha256")
    planes = {file.stem for file in (sweep / "report").glob("rate_distortion*")}
    assert planes == {"rate_distortion_1", "rate_distortion_2"}
    assert len(read_rows(sweep)) == 14


@pytest.mark.parametrize(
    ("validated", "key", "apart"),
    [
        ([(0, 200), (1, 200)], "data.seed", True),
        ([(0, 200), (0, 100)], "data.validation_size", True),
        ([(0, 200), (0, 200)], "model.latent_dim", False),  # as in every sweep that does not change the split
        ([(0, 0), (1, 0)], "data.seed", False),  # ranked by the test images, which are the same
    ],
)
def test_cells_validated_on_different_images_have_no_common_best(
    tmp_path: Path, validated: list[tuple[int, int]], key: str, apart: bool
) -> None:
    """The data have a test set of their own, so their digest does not depend on the split."""
    cells = [
        finished_cell(
            f"{key}={number}", f"optimizer.lr={lr}", metrics=scores(rate, 5, split_seed=seed, val_images=images)
        )
        for number, (seed, images) in enumerate(validated)
        for lr, rate in ((0.001, 2), (0.002, 1 + number))
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page, line = read_page(sweep), say_best(sweep)
    best = read_best(sweep)
    if apart:
        value = int(key != "data.seed")
        reason = f"results of different {key} are ranked by different validation images: cell0-00000000 "
        assert line.startswith(f"no setting is the best: {reason}") and best is None
        assert reason in page.text and page.text.count("Best: ") == 2  # one for each split
        assert f"digits raw, data.seed={1 - value}, data.validation_size={200 - 100 * value}" in page.text
    else:
        assert line.startswith("best: ") and best["setting"] == {key: 0, "optimizer.lr": 0.002}
        assert page.text.count("Best: ") == 1
