"""The exact answer beside linear cells in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nelbo.sweeps.report.cell_table import read_table
from nelbo.sweeps.report.linear import is_linear, truth
from nelbo.sweeps.report.write import write_report
from nelbo.theory.spectrum import spectrum
from nelbo.theory.water_filling import optimum
from tests.helpers.linear import pixels
from tests.helpers.sweep_directories import scores, write_sweep


def linear_config(sigma: float = 0.2, **data: object) -> dict[str, object]:
    """Return the part of a config by which a cell is recognised as a linear VAE."""
    return {
        "model": {
            "_target_": "nelbo.models.VAE",
            "latent_dim": 4,
            "encoder": {"_target_": "nelbo.nets.MLP", "hidden": []},
            "decoder": {"_target_": "nelbo.nets.MLP", "hidden": []},
            "prior": {"_target_": "nelbo.priors.StandardNormal"},
            "posterior": {"_target_": "nelbo.heads.DiagonalNormalPosterior"},
            "likelihood": {"_target_": "nelbo.heads.FixedGaussian", "sigma": sigma},
        },
        "objective": {"_target_": "nelbo.objectives.NegativeELBO", "beta": 1},
        "data": {
            "_target_": "nelbo.data.module.ImageData", "name": "digits", "shape": [1, 8, 8], "levels": 17,
            "source": {"_target_": "nelbo.data.digits", "_partial_": True}, "protocol": "raw",
            "augment": {"_target_": "nelbo.data.Augmentation", "flip": False, "pad_crop": 0},
            "validation_size": 0, "seed": 0, "batch_size": 256, "order_seed": 0, "shuffle": True, "num_workers": 0,
            **data,
        },
    }  # fmt: skip


def test_cells_at_the_optimum_have_no_deviation_and_the_page_shows_the_largest(tmp_path: Path) -> None:
    train, test = pixels()
    digits = spectrum(train.flatten(1), test.flatten(1))
    cells = []
    for beta in (0.5, 2.0):
        best = optimum(digits, 4, beta, 0.04)
        off = 1.03 if beta == 2 else 1.0
        cells.append({"overrides": [f"objective.beta={beta}"], "metrics": scores(off * best.rate, best.distortion)})
    sweep = write_sweep(tmp_path / "sweep", cells)
    for file in sweep.glob("*/cell.json"):
        record = json.loads(file.read_text())
        beta = record["config"]["objective"]["beta"]
        record["config"] = linear_config()
        record["config"]["objective"]["beta"] = beta
        file.write_text(json.dumps(record))
    answer = truth(read_table(sweep).rows)
    assert answer is not None
    first, second = answer.deviations.values()
    assert abs(first["rate"]) < 1e-4 and abs(first["error"]) < 1e-4
    assert second["rate"] == pytest.approx(0.03, abs=1e-4)
    page = write_report(sweep).read_text()
    assert "reverse water-filling" in page and "3.00% in rate" in page


def test_only_linear_cells_without_noise_or_schedules_have_an_exact_answer() -> None:
    assert is_linear(linear_config())
    assert not is_linear(linear_config(protocol="dynamic"))
    assert not is_linear(linear_config(sigma={"linear": {"steps": 5}}))  # type: ignore[arg-type]
    assert not is_linear(linear_config(augment={"flip": True}))
    for slot, value in (("encoder", {"_target_": "nelbo.nets.MLP", "hidden": [8]}), ("likelihood", {"_target_": "x"})):
        config = linear_config()
        config["model"][slot] = value  # type: ignore[index]
        assert not is_linear(config)
