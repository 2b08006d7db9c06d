"""Principal directions of images in memory, and how many of them are more than sampling noise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nelbo.theory.spectrum import Covariance, LeadingSpectrum, principal_directions, spectrum, units_worth_it
from tests.helpers.components import NOISE, images_with_components
from tests.helpers.gallery import digit_images


def covariance_of(x: Tensor) -> Covariance:
    centred = x.double() - x.double().mean(dim=0)

    def covariance(columns: Tensor | None) -> tuple[Tensor, Tensor]:
        return x.double().mean(dim=0), centred.T @ (centred if columns is None else centred @ columns) / len(x)

    return covariance


def whole_spectrum(train: Tensor, held_out: Tensor) -> LeadingSpectrum:
    mean, values, vectors = principal_directions(covariance_of(train.flatten(1)))
    return LeadingSpectrum(values, ((held_out.flatten(1).double() - mean) @ vectors).square(), is_whole=True)


def test_noise_at_the_water_level_is_not_counted_if_there_are_many_images() -> None:
    """A learned sigma is at the noise: half of 400 directions are above it by chance, which held-out images refute."""
    images = whole_spectrum(*images_with_components(400, 5000, 1000, torch.linspace(40, 10, 10)))
    assert int((images.values > NOISE).sum()) > 150
    assert [units_worth_it(images, factor * NOISE) for factor in (0.95, 1, 1.1)] == [10] * 3


def test_digits_keep_every_unit_of_the_optimum_on_the_training_images() -> None:
    """At the levels of docs/linear.md: 1,300 images of 64 pixels, and 200 held out at random."""
    train, _, _, _ = digit_images()
    order = torch.randperm(len(train))
    digits = whole_spectrum(train[order[200:]], train[order[:200]])
    levels = [beta * 0.225**2 for beta in (0.37, 1, 2.5, 6.5, 9)]
    assert [units_worth_it(digits, level) for level in levels] == [30, 18, 10, 4, 3]


@pytest.mark.parametrize("count", [40, 2500])
def test_principal_directions_are_exact_or_approximate_from_below(count: int) -> None:
    x, _ = images_with_components(50, count, 0, torch.tensor([300.0, 100.0, 30.0]))
    centred = x.flatten(1).double() - x.flatten(1).double().mean(dim=0)
    exact = torch.linalg.eigvalsh(centred.T @ centred / count).flip(0).clamp(min=0)
    covariance = covariance_of(x.flatten(1))
    mean, values, vectors = principal_directions(covariance)
    torch.testing.assert_close(mean, x.flatten(1).double().mean(dim=0))
    torch.testing.assert_close(values, exact)
    torch.testing.assert_close((centred @ vectors).square().mean(dim=0), exact)
    _, leading, vectors = principal_directions(covariance, torch.randn(50, 12, dtype=torch.float64))
    assert leading.shape == (12,) and vectors.shape == (50, 12) and bool((leading <= exact[:12] * (1 + 1e-9)).all())
    torch.testing.assert_close(leading[:3], exact[:3], rtol=1e-6, atol=0)


def test_both_spectra_of_the_same_images_agree() -> None:
    train, held_out = (part.flatten(1) for part in images_with_components(20, 300, 100, torch.tensor([9.0, 4.0])))
    mean_energy, each_energy = spectrum(train, held_out), whole_spectrum(train, held_out)
    torch.testing.assert_close(mean_energy.values, each_energy.values)
    torch.testing.assert_close(mean_energy.energy, each_energy.energies.mean(dim=0))
