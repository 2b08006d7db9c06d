"""The exact optimum of linear VAEs, against Shannon's formula and an independent implementation."""

from __future__ import annotations

import math

import pytest
import torch

from nelbo.theory.spectrum import Spectrum, spectrum
from nelbo.theory.water_filling import distortion, learned_sigma2, optimum, squared_error
from tests.helpers.linear import optimal_sigma2, pixels, water_filling
from tests.helpers.linear import spectrum as other_spectrum

VALUES = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.0], dtype=torch.float64)
SHANNON = Spectrum(VALUES, VALUES)


def flat() -> tuple[torch.Tensor, torch.Tensor]:
    train, test = pixels()
    return train.flatten(1), test.flatten(1)


@pytest.mark.parametrize("theta", [0.1, 0.6, 1.5])
def test_on_the_training_images_it_is_shannons_formula(theta: float) -> None:
    best = optimum(SHANNON, 6, 1.0, theta)
    assert best.rate == pytest.approx(0.5 * sum(math.log(v / theta) for v in VALUES.tolist() if v > theta))
    assert best.error == pytest.approx(sum(min(v, theta) for v in VALUES.tolist()))
    assert best.active == sum(v > theta for v in VALUES.tolist())


def test_at_a_large_beta_nothing_is_coded() -> None:
    best = optimum(SHANNON, 6, 1e9, 0.1)
    assert (best.rate, best.active) == (0, 0) and best.error == pytest.approx(VALUES.sum().item())


def test_the_latent_dimension_limits_the_units() -> None:
    best = optimum(SHANNON, 2, 1.0, 0.1)
    assert best.active == 2 and best.error == pytest.approx(0.1 + 0.1 + VALUES[2:].sum().item())


def test_on_other_images_it_is_the_average_of_the_exact_terms() -> None:
    """KL and E|x - decoded z|^2 of each image follow from the weights in closed form, without sampling."""
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
    best = optimum(spectrum(train, test), latent_dim, 1.5, theta / 1.5)
    assert best.rate == pytest.approx(kl.item())
    assert best.error == pytest.approx((decoded + projected[:, ~on].square().sum(1)).mean().item())


@pytest.mark.parametrize(("latent_dim", "beta"), [(4, 0.5), (8, 1.0), (32, 8.0)])
def test_it_agrees_with_an_independent_implementation_on_the_digits(latent_dim: int, beta: float) -> None:
    train, _ = flat()
    digits = spectrum(train, train)
    torch.testing.assert_close(digits.energy, digits.values)
    for sigma2 in (0.02, learned_sigma2(digits.values, latent_dim, beta)):
        expected_distortion, expected_rate = water_filling(digits.values, latent_dim, beta, sigma2)
        best = optimum(digits, latent_dim, beta, sigma2)
        assert best.rate == pytest.approx(expected_rate) and best.distortion == pytest.approx(expected_distortion)


@pytest.mark.parametrize("beta", [0.5, 1, 4])
def test_the_learned_sigma_is_the_error_per_pixel(beta: float) -> None:
    train, _ = flat()
    digits = spectrum(train, train)
    sigma2 = learned_sigma2(digits.values, 8, beta)
    assert sigma2 == pytest.approx(optimal_sigma2(digits.values, 8, beta))
    best = optimum(digits, 8, beta, sigma2)
    assert best.error == pytest.approx(64 * sigma2)
    assert best.distortion == pytest.approx(0.5 * 64 * (1 + math.log(2 * math.pi * sigma2)))


def test_distortion_and_squared_error_are_inverse() -> None:
    assert squared_error(distortion(3.5, 64, 0.02), 64, 0.02) == pytest.approx(3.5)
