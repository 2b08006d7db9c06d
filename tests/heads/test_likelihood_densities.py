"""Continuous p(x|z): densities integrate to one, and have the stated means and samples."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta
from torch.distributions import Independent, Laplace, Normal

from nelbo.distributions import BetaPixels, LaplacePixels, NormalPixels

PIXEL = (1, 1, 1)


def assert_moments(samples: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Check the mean and variance of samples (N, ...), within 5 standard errors."""
    count = len(samples)
    assert ((samples.mean(0) - mean).abs() <= 5 * (variance / count).sqrt()).all()
    squares = (samples - mean).square()
    assert ((squares.mean(0) - variance).abs() <= 5 * squares.std(0) / math.sqrt(count)).all()


def beta_pixels(levels: int) -> BetaPixels:
    """Return Beta pixels with means from 0.1 to 0.9, from U-shaped to peaked densities."""
    means, concentrations = torch.tensor([0.1, 0.4, 0.9]).double(), torch.tensor([5.5, 6.0, 300.0]).double()
    grid = torch.meshgrid(means, concentrations, indexing="ij")
    mean, concentration = (part.reshape(-1, 1, 1, 1) for part in grid)
    return BetaPixels(torch.logit(mean), concentration, levels)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_beta_integrates_to_one_and_has_its_mean(levels: int) -> None:
    px, half = beta_pixels(levels), 0.5 / (levels - 1)
    t = torch.linspace(
        -36, 36, 40_001
    ).double()  # a substitution x = sigmoid(t), which removes the poles of the density
    width = 1 + 2 * half
    x, slope = width * torch.sigmoid(t) - half, width * torch.sigmoid(t) * torch.sigmoid(-t)
    density = px.log_prob(x.reshape(-1, 1, 1, 1, 1)).exp() * slope.unsqueeze(1)
    torch.testing.assert_close(torch.trapezoid(density, t, dim=0), torch.ones(9).double(), rtol=1e-7, atol=0)
    mean = torch.trapezoid(density * x.unsqueeze(1), t, dim=0)
    torch.testing.assert_close(px.mean.flatten(), mean, rtol=1e-6, atol=1e-7)


def test_beta_equals_that_of_torch_for_transformed_pixels() -> None:
    px, x = beta_pixels(17), torch.rand(5, 9, 1, 1, 1).double()
    mean = torch.sigmoid(px.logits)
    beta = TorchBeta(mean * px.concentration, (1 - mean) * px.concentration)
    expected = beta.log_prob((x * 16 + 0.5) / 17) + math.log(16 / 17)
    torch.testing.assert_close(px.log_prob(x), expected.sum((-3, -2, -1)))
    samples = px.sample((100_000,))
    assert px.support.check(samples).all()
    assert_moments(samples, px.mean, beta.variance * (17 / 16) ** 2)
    assert px.support.check(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)).all() and not px.support.is_discrete
    assert not px.support.check(torch.tensor([-0.04, 1.04]).reshape(2, 1, 1, 1)).any()
    torch.testing.assert_close(px.expand((4, 9)).log_prob(x[0])[3], px.log_prob(x[0]))


SCALES = [(), (3, 1, 1), (3, 2, 4)]


@pytest.mark.parametrize("shape", SCALES)
@pytest.mark.parametrize(("kind", "torch_kind"), [(NormalPixels, Normal), (LaplacePixels, Laplace)])
def test_pixels_with_shared_scales_equal_those_of_torch(kind: type, torch_kind: type, shape: tuple[int, ...]) -> None:
    loc, scale, x = (
        torch.rand(6, 5, 3, 2, 4).double(),
        0.1 + torch.rand(shape).double(),
        torch.rand(5, 3, 2, 4).double(),
    )
    px, plain = kind(loc, scale), Independent(torch_kind(loc, scale), 3)
    torch.testing.assert_close(px.log_prob(x), plain.log_prob(x))
    torch.testing.assert_close(px.expand((2, 6, 5)).log_prob(x), plain.expand((2, 6, 5)).log_prob(x))
    assert_moments(kind(loc[0, 0], scale).sample((20_000,)), loc[0, 0], torch_kind(loc[0, 0], scale).variance)


def test_laplace_integrates_to_one() -> None:
    x = torch.linspace(-5, 5, 100_001).double()
    density = LaplacePixels(torch.full(PIXEL, 0.3).double(), torch.tensor(0.1).double()).log_prob(
        x.reshape(-1, 1, 1, 1)
    )
    assert torch.trapezoid(density.exp(), x).item() == pytest.approx(1, abs=1e-6)


def test_beta_is_accurate_in_float32() -> None:
    """Near the largest concentration, terms of 1e4 per pixel cancel: float32 would have an error of nats per image."""
    logits = 3 * torch.randn(20, 3, 32, 32)
    for concentration in (10.0, 1500.0):
        n = torch.full((3, 1, 1), concentration)
        x = BetaPixels(logits, n, 256).sample().clamp(0, 1)
        single = BetaPixels(logits, n, 256).log_prob(x)
        double = BetaPixels(logits.double(), n.double(), 256).log_prob(x.double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0.05)
