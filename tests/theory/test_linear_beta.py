"""Trained linear beta-VAEs with a fixed sigma against reverse water-filling: rate, error and active units.

Shapes: P pixels, D latent dimensions.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import nelbo
from nelbo.models import VAE
from tests.helpers.linear import LINEAR, elbo_terms, pixels, spectrum
from tests.helpers.sweeps import sweep

# With this sigma the levels theta = beta sigma^2 are in gaps of the spectrum (30, 18, 10, 4, 3 eigenvalues are above).
# For an eigenvalue at the level the loss is equal with and without a unit, and training would not converge.
SIGMA = 0.225
GAP = 1.08
"""Smallest ratio of a level and its neighbouring eigenvalues."""
# Latent dimensions below and above the number of eigenvalues above the level, and the values of beta.
GRIDS = (((8, 32), (0.37, 1)), ((2, 16), (2.5, 6.5, 9)))
# For the default budget, 6,000 steps of 256 images. With Adam's default beta2 of 0.999, or with one sample, the weakest
# component would still be spread over several units at the end.
BUDGET = ("optimizer.lr=0.02", "optimizer.betas=[0.9,0.99]", "objective.num_samples=4")
ACTIVE = 0.01
"""A unit is active if Var_x(E_q[z]) exceeds this (Burda et al. 2016)."""


def exact(values: Tensor, latent_dim: int, beta: float) -> tuple[float, float, int]:
    """Return the rate in nats, the squared error summed over pixels, and the number of active units at the optimum."""
    theta = beta * SIGMA**2
    units = values[:latent_dim]
    rate = 0.5 * (units[units > theta] / theta).log().sum().item()
    return rate, (units.clamp(max=theta).sum() + values[latent_dim:].sum()).item(), int((units > theta).sum())


@torch.no_grad()
def measured(vae: VAE, x: Tensor) -> tuple[float, float, int]:
    """Return the same numbers of a trained model, without Monte Carlo noise."""
    reconstruction, rate = elbo_terms(vae, x)
    constant = 0.5 * math.prod(x.shape[1:]) * math.log(2 * math.pi * SIGMA**2)
    active = int((vae.encode(x).mean.var(0, correction=0) > ACTIVE).sum())
    return rate, 2 * SIGMA**2 * (reconstruction - constant), active


def check(folder: Path, latent_dims: tuple[int, ...], betas: tuple[float, ...], *overrides: str) -> None:
    """Run one sweep and check that every cell is at its optimum."""
    grid = (f"model.latent_dim={','.join(map(str, latent_dims))}", f"objective.beta={','.join(map(str, betas))}")
    fixed = ("likelihood=gaussian_fixed", f"model.likelihood.sigma={SIGMA}", "hydra/launcher=basic", "threads=1")
    done = sweep(folder, *LINEAR, *fixed, *BUDGET, *grid, *overrides)
    assert done.returncode == 0, done.stderr
    x, _ = pixels()
    _, values, _ = spectrum(x)
    cells = list(folder.glob("*/cell.json"))
    assert len(cells) == len(latent_dims) * len(betas)
    for file in cells:
        config = json.loads(file.read_text())["config"]
        cell = config["model"]["latent_dim"], config["objective"]["beta"]
        rate, error, active = measured(nelbo.load(file.parent).double(), x)
        best_rate, best_error, best_active = exact(values, *cell)
        assert active == best_active, cell
        assert abs(rate - best_rate) < max(0.01 * best_rate, 0.01), (cell, rate, best_rate)
        assert abs(error / best_error - 1) < 0.01, (cell, error, best_error)


def test_the_levels_are_in_gaps_and_latent_dimensions_on_both_sides() -> None:
    _, values, _ = spectrum(pixels()[0])
    for (below, above), betas in GRIDS:
        for beta in betas:
            theta = beta * SIGMA**2
            active = int((values > theta).sum())
            assert values[active - 1] > GAP * theta and theta > GAP * values[active]
            assert below < active < above


@pytest.mark.slow
def test_two_cells_reach_the_optimum(tmp_path: Path) -> None:
    check(tmp_path, (2, 16), (6.5,), "trainer.max_epochs=500")


@pytest.mark.slow
@pytest.mark.parametrize(("latent_dims", "betas"), GRIDS)
def test_ten_cells_reach_the_optimum(tmp_path: Path, latent_dims: tuple[int, ...], betas: tuple[float, ...]) -> None:
    check(tmp_path, latent_dims, betas)
