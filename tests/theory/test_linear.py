"""The number of units of the best linear VAE, and their rates."""

from __future__ import annotations

import pytest
import torch

from nelbo.theory.linear import LinearTheory
from nelbo.theory.spectrum import LeadingSpectrum, Spectrum
from nelbo.theory.water_filling import optimum

VALUES = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.0], dtype=torch.float64)


def theory(level: float, energies: torch.Tensor = VALUES) -> LinearTheory:
    return LinearTheory(LeadingSpectrum(VALUES, energies.expand(50, 6), is_whole=True), level)


@pytest.mark.parametrize("level", [0.1, 0.6, 1.5])
@pytest.mark.parametrize("latent_dim", [1, 3, 6])
def test_units_and_rates_are_those_of_reverse_water_filling(level: float, latent_dim: int) -> None:
    best = optimum(Spectrum(VALUES, VALUES), latent_dim, 1.0, level)
    assert theory(level).units(latent_dim) == theory(level).units_above_level(latent_dim) == best.active
    assert theory(level).rates(latent_dim).sum().item() == pytest.approx(best.rate)


def test_units_that_held_out_images_refute_are_not_counted() -> None:
    """The third eigenvalue is above the level, but held-out images have no energy along its direction."""
    refuted = theory(0.6, torch.tensor([4.0, 2.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    assert refuted.units_above_level(6) == 3
    assert refuted.useful_directions == refuted.units(6) == len(refuted.rates(6)) == 2
