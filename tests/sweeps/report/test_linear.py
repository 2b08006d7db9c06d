"""Trained linear VAEs agree with the exact optimum that the report compares them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from nelbo.sweeps.report.cell_table import read_table
from nelbo.sweeps.report.linear import truth
from tests.helpers.sweeps import sweep

LINEAR = (
    "model=linear_vae", "data=digits", "data.validation_size=0", "likelihood=gaussian_fixed",
    "model.likelihood.sigma=0.141421", "objective.num_samples=8", "callbacks=none", "logger=none",
)  # fmt: skip


@pytest.mark.slow
def test_measured_cells_lie_on_the_exact_curve(tmp_path: Path) -> None:
    done = sweep(tmp_path, *LINEAR, "model.latent_dim=4,16", "objective.beta=1,4")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.html").read_text()
    assert "Largest deviation of the 4 measured cells from the exact answer" in page
    answers = truth(read_table(tmp_path).rows)
    assert answers is not None and len(answers.deviations) == 4 and len(answers.curves) == 2
    for cell, deviation in answers.deviations.items():
        assert abs(deviation["rate"]) < 0.02 and abs(deviation["error"]) < 0.02, (cell, deviation)
