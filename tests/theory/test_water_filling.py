"""The exact answer of linear VAEs, against Shannon's formula and the independent one of test_linear."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from nelbo.sweeps.report.cell_table import read_table
from nelbo.sweeps.report.linear import is_linear, truth
from nelbo.sweeps.report.write import write_report
from nelbo.theory.water_filling import (
    Spectrum,
    distortion,
    learned_sigma2,
    optimum,
    spectrum,
    squared_error,
)
from tests.helpers.linear import optimal_sigma2, pixels, water_filling
from tests.helpers.linear import spectrum as other_spectrum
from tests.helpers.sweep_directories import scores, write_sweep

VALUES = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.0], dtype=torch.float64)
SHANNON = Spectrum(VALUES, VALUES)


def flat() -> tuple[torch.Tensor, torch.Tensor]:
    train, test = pixels()
    return train.flatten(1), test.flatten(1)


@pytest.mark.parametrize("theta", [0.1, 0.6, 1.5])
def test_on_the_training_images_it_is_shannons_formula(theta: float) -> None:
    found = optimum(SHANNON, 6, 1.0, theta)
    assert found.rate == pytest.approx(0.5 * sum(math.log(v / theta) for v in VALUES.tolist() if v > theta))
    assert found.error == pytest.approx(sum(min(v, theta) for v in VALUES.tolist()))
    assert found.active == sum(v > theta for v in VALUES.tolist())


def test_at_a_large_beta_nothing_is_coded() -> None:
    found = optimum(SHANNON, 6, 1e9, 0.1)
    assert (found.rate, found.active) == (0, 0) and found.error == pytest.approx(VALUES.sum().item())


def test_the_latents_limit_the_units() -> None:
    found = optimum(SHANNON, 2, 1.0, 0.1)
    assert found.active == 2 and found.error == pytest.approx(0.1 + 0.1 + VALUES[2:].sum().item())


def test_on_other_images_it_is_the_average_of_the_exact_terms() -> None:
    """Draw nothing: KL and E|x - decoded z|^2 of each image, from the weights, in closed form."""
    generator = torch.Generator().manual_seed(3)
    train, test = (torch.rand(count, 5, generator=generator, dtype=torch.float64) for count in (200, 50))
    mean, values, vectors = other_spectrum(train)
    latent_dim, theta = 3, 0.075
    on = (torch.arange(5) < latent_dim) & (values > theta)
    assert 0 < on.sum()
    projected = (test - mean) @ vectors
    weights, variance = (values - theta)[on].sqrt(), theta / values[on]
    location = projected[:, on] * weights / values[on]
    kl = 0.5 * (location.square() + variance - 1 - variance.log()).sum(1).mean()
    decoded = (projected[:, on] - weights * location).square().sum(1) + (weights.square() * variance).sum()
    found = optimum(spectrum(train, test), latent_dim, 1.5, theta / 1.5)
    assert found.rate == pytest.approx(kl.item())
    assert found.error == pytest.approx((decoded + projected[:, ~on].square().sum(1)).mean().item())


@pytest.mark.parametrize(("latent_dim", "beta"), [(4, 0.5), (8, 1.0), (32, 8.0)])
def test_it_agrees_with_the_other_formula_on_the_digits(latent_dim: int, beta: float) -> None:
    train, _ = flat()
    found = spectrum(train, train)
    torch.testing.assert_close(found.energy, found.values)
    for sigma2 in (0.02, learned_sigma2(found.values, latent_dim, beta)):
        expected_distortion, expected_rate = water_filling(found.values, latent_dim, beta, sigma2)
        best = optimum(found, latent_dim, beta, sigma2)
        assert best.rate == pytest.approx(expected_rate) and best.distortion == pytest.approx(expected_distortion)


@pytest.mark.parametrize("beta", [0.5, 1, 4])
def test_the_learned_sigma_is_the_error_a_pixel(beta: float) -> None:
    train, _ = flat()
    found = spectrum(train, train)
    sigma2 = learned_sigma2(found.values, 8, beta)
    assert sigma2 == pytest.approx(optimal_sigma2(found.values, 8, beta))
    best = optimum(found, 8, beta, sigma2)
    assert best.error == pytest.approx(64 * sigma2)
    assert best.distortion == pytest.approx(0.5 * 64 * (1 + math.log(2 * math.pi * sigma2)))


def test_distortion_and_squared_error_are_inverse() -> None:
    assert squared_error(distortion(3.5, 64, 0.02), 64, 0.02) == pytest.approx(3.5)


def linear_config(sigma: float = 0.2, **data: object) -> dict[str, object]:
    """The part of the config that says that a cell is linear; the overrides say the rest."""
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


def test_cells_at_the_optimum_deviate_by_nothing_and_the_page_says_so(tmp_path: Path) -> None:
    found = spectrum(*flat())
    cells = []
    for beta in (0.5, 2.0):
        best = optimum(found, 4, beta, 0.04)
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


def test_only_what_has_an_exact_answer_is_given_one() -> None:
    assert is_linear(linear_config())
    assert not is_linear(linear_config(protocol="dynamic"))
    assert not is_linear(linear_config(sigma={"linear": {"steps": 5}}))  # type: ignore[arg-type]
    assert not is_linear(linear_config(augment={"flip": True}))
    for slot, value in (("encoder", {"_target_": "nelbo.nets.MLP", "hidden": [8]}), ("likelihood", {"_target_": "x"})):
        config = linear_config()
        config["model"][slot] = value  # type: ignore[index]
        assert not is_linear(config)
