"""Discrete p(x|z): probabilities sum to one over the levels, and means and samples agree with them."""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import (
    CategoricalPixels,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
)

DISCRETIZED = [DiscretizedLogistic, DiscretizedGaussian]
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-4)]
FUNCTIONS: dict[type, Callable[[Tensor], Tensor]] = {
    DiscretizedLogistic: torch.sigmoid,
    DiscretizedGaussian: torch.special.ndtr,
}
PIXEL = (1, 1, 1)


def every_image(levels: int, channels: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return all images of one pixel, (L^C, C, 1, 1)."""
    numbers = torch.tensor(list(product(range(levels), repeat=channels)), dtype=dtype)
    return numbers.reshape(-1, channels, 1, 1) / (levels - 1)


def log_probabilities(px: Distribution, x: Tensor) -> Tensor:
    """Return the log-probability of each image (N, C, H, W) under each distribution of a batch (B,), (N, B)."""
    return px.log_prob(x.unsqueeze(1))


def assert_sums_to_one(px: Distribution, x: Tensor, tolerance: float) -> None:
    log_p = log_probabilities(px, x)
    assert log_p.shape == (len(x), *px.batch_shape) and log_p.isfinite().all()
    total = log_p.double().logsumexp(0)
    torch.testing.assert_close(total.exp(), torch.ones_like(total), rtol=0, atol=tolerance)


def assert_samples_agree(px: Distribution, x: Tensor, count: int = 20_000) -> None:
    """Check that the frequency of each image among samples is its probability, within 5 standard errors."""
    p, samples = log_probabilities(px, x).exp(), px.sample((count,))
    assert samples.shape == (count, *px.batch_shape, *px.event_shape) and px.support.check(samples).all()
    for image, expected in zip(x, p, strict=True):
        frequency = ((samples - image).abs() < 1e-6).flatten(2).all(-1).double().mean(0)
        assert ((frequency - expected).abs() <= 5 * (expected * (1 - expected) / count).sqrt() + 1e-9).all()


def discretized(kind: type, levels: int, dtype: torch.dtype = torch.float64) -> Distribution:
    """Return one-pixel distributions with locations inside and far outside [0, 1], and small to very large scales."""
    loc = torch.tensor([-3.0, -0.01, 0.0, 0.37, 0.5, 1.0, 1.2, 40.0], dtype=dtype)
    scale = torch.tensor([0.01 / (levels - 1), 0.3 / (levels - 1), 0.1, 10.0, 1e6], dtype=dtype)
    loc, scale = (part.flatten().reshape(-1, 1, 1, 1) for part in torch.meshgrid(loc, scale, indexing="ij"))
    px: Distribution = kind(loc, scale, levels)
    return px


@pytest.mark.parametrize("kind", DISCRETIZED)
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_discretized_probabilities_sum_to_one(kind: type, levels: int, dtype: torch.dtype, tolerance: float) -> None:
    assert_sums_to_one(discretized(kind, levels, dtype), every_image(levels, dtype=dtype), tolerance)


@pytest.mark.parametrize("kind", DISCRETIZED)
def test_discretized_probabilities_are_differences_of_the_cdf(kind: type) -> None:
    px, values, half = discretized(kind, 17), every_image(17).unsqueeze(1), 0.5 / 16
    upper = FUNCTIONS[kind]((values + half - px.loc) / px.scale)  # type: ignore[attr-defined]
    lower = FUNCTIONS[kind]((values - half - px.loc) / px.scale)  # type: ignore[attr-defined]
    upper[-1], lower[0] = 1, 0
    exact = (upper - lower).flatten(1)
    resolved = exact > 1e-7  # elsewhere the difference of two numbers near 1 is inaccurate
    torch.testing.assert_close(px.log_prob(values).exp()[resolved], exact[resolved], rtol=1e-7, atol=0)
    assert resolved.sum() > 100


@pytest.mark.parametrize("kind", DISCRETIZED)
def test_discretized_samples_and_means_agree_with_the_probabilities(kind: type) -> None:
    px, values = discretized(kind, 17), every_image(17)
    p = log_probabilities(px, values).exp()
    torch.testing.assert_close(px.mean.flatten(), (p * values.flatten(1)).sum(0), rtol=1e-9, atol=1e-12)
    assert_samples_agree(px, values, 10_000)


def test_discretized_logistic_is_accurate_far_from_its_mean() -> None:
    """The location is about 400 scales above the image, where a difference of values of the cdf is 0 in float32."""
    loc = torch.full(PIXEL, 40.0, requires_grad=True)
    px = DiscretizedLogistic(loc, torch.full(PIXEL, 0.1), 256)
    log_p = px.log_prob(torch.full(PIXEL, 100 / 255))
    # In the tail, F(x) = exp((x - loc) / scale).
    step = 0.5 / 255 / 0.1
    expected = (100 / 255 - 40) / 0.1 + step + math.log(-math.expm1(-2 * step))
    assert log_p.item() == pytest.approx(expected, rel=1e-5)
    log_p.backward()
    assert loc.grad is not None and loc.grad.item() == pytest.approx(-10, rel=1e-4)


def test_discretized_gaussian_is_accurate_in_float32() -> None:
    """The test covers distances up to 10,000 deviations, where the gradient of log_ndtr in float32 is wrong."""
    levels = torch.tensor([0.0, 1.0, 7.0, 15.0, 16.0])
    locs = torch.tensor([-60.0, 0.0, 0.49, 0.51, 7.2, 16.0, 30.0, 110.0])
    scales = torch.tensor([0.01, 0.1, 1.0, 30.0, 300.0, 1e4])
    level, *parameters = torch.meshgrid(levels, locs, scales, indexing="ij")

    def through_log_ndtr(level: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
        side = torch.where(level >= loc, -1.0, 1.0).double()  # reflected, so that both edges lie in the lower tail
        edge, bottom, top = side * (level - loc), level == 0, level == 16
        upper = torch.where(bottom & (side < 0) | top & (side > 0), math.inf, (edge + 0.5) / scale)
        lower = torch.where(bottom & (side > 0) | top & (side < 0), -math.inf, (edge - 0.5) / scale)
        log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
        return log_upper + torch.log1p(-torch.exp(log_lower - log_upper))

    single = [part.clone().requires_grad_() for part in parameters]
    double = [part.double().requires_grad_() for part in parameters]
    values = DiscretizedGaussian.log_mass(level, 16, *single), through_log_ndtr(level.double(), *double)
    assert values[0].isfinite().all() and values[1].min() < -5e7
    torch.testing.assert_close(values[0].double(), values[1], rtol=1e-4, atol=1e-6)
    gradients = torch.autograd.grad(values[0].sum(), single), torch.autograd.grad(values[1].sum(), double)
    for gradient, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient.double(), exact, rtol=1e-4, atol=1e-5)


def mixture(
    channels: int, components: int, levels: int, dtype: torch.dtype = torch.float64
) -> DiscretizedLogisticMixture:
    """Return 40 one-pixel mixtures, with scales from the least to beyond the range and coefficients up to 1."""
    batch, pairs = 40, channels * (channels - 1) // 2
    logits = 2 * torch.randn(batch, components, 1, 1, dtype=dtype)
    loc = 0.5 + torch.randn(batch, channels, components, 1, 1, dtype=dtype)
    exponent = 5 * torch.rand(batch, channels, components, 1, 1, dtype=dtype)
    scale = 0.01 / (levels - 1) * 10**exponent
    coefficients = torch.tanh(3 * torch.randn(batch, pairs, components, 1, 1, dtype=dtype))
    return DiscretizedLogisticMixture(logits, loc, scale, coefficients, levels)


@pytest.mark.parametrize(("channels", "levels"), [(1, 17), (2, 6), (3, 4), (4, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_mixture_sums_to_one_over_all_channels(
    channels: int, levels: int, dtype: torch.dtype, tolerance: float
) -> None:
    assert_sums_to_one(mixture(channels, 3, levels, dtype), every_image(levels, channels, dtype), tolerance)


def test_mixture_is_that_of_pixelcnn_pp() -> None:
    """The expected probabilities are computed with scalars in the units of the paper, in which a pixel is 2 x - 1."""
    px, levels = mixture(3, 2, 4), 4
    for image, log_p in zip(every_image(levels, 3), log_probabilities(px, every_image(levels, 3)), strict=True):
        red, green, blue = (2 * image.flatten() - 1).tolist()
        for index in range(0, 40, 7):
            total = 0.0
            weights = px.logits[index].flatten().softmax(0).tolist()
            for k, weight in enumerate(weights):
                loc = (2 * px.loc[index, :, k].flatten() - 1).tolist()
                scale = (2 * px.scale[index, :, k].flatten()).tolist()
                alpha, beta, gamma = px.coefficients[index, :, k].flatten().tolist()
                means = (loc[0], loc[1] + alpha * red, loc[2] + beta * red + gamma * green)
                for value, mean, spread in zip((red, green, blue), means, scale, strict=True):
                    upper = 1.0 if value > 0.99 else logistic((value + 1 / 3 - mean) / spread)
                    lower = 0.0 if value < -0.99 else logistic((value - 1 / 3 - mean) / spread)
                    weight *= upper - lower
                total += weight
            assert log_p[index].exp().item() == pytest.approx(total, rel=1e-9, abs=1e-14)


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def test_mixture_sums_over_pixels_and_broadcasts_over_samples() -> None:
    x = torch.randint(4, (5, 3, 2, 3)).double() / 3
    logits, loc = torch.randn(2, 5, 2, 2, 3).double(), torch.rand(2, 5, 3, 2, 2, 3).double()
    scale, coefficients = torch.rand(2, 5, 3, 2, 2, 3).double(), torch.rand(2, 5, 3, 2, 2, 3).double()
    px = DiscretizedLogisticMixture(logits, loc, scale, coefficients, 4)
    assert px.batch_shape == (2, 5) and px.event_shape == (3, 2, 3) and px.mean.shape == (2, 5, 3, 2, 3)
    total = torch.zeros(2, 5).double()
    for row, column in product(range(2), range(3)):
        index = (..., slice(row, row + 1), slice(column, column + 1))
        pixel = DiscretizedLogisticMixture(logits[index], loc[index], scale[index], coefficients[index], 4)
        total += pixel.log_prob(x[index])
    torch.testing.assert_close(px.log_prob(x), total)
    torch.testing.assert_close(px.expand((7, 2, 5)).log_prob(x)[3], total)
    assert px.expand((7, 2, 5)).sample((2,)).shape == (2, 7, 2, 5, 3, 2, 3)


def test_mixture_of_one_component_and_one_channel_is_a_discretized_logistic() -> None:
    px, x = mixture(1, 1, 17), every_image(17)
    plain = DiscretizedLogistic(px.loc.squeeze(1), px.scale.squeeze(1), 17)
    torch.testing.assert_close(log_probabilities(px, x), log_probabilities(plain, x))
    torch.testing.assert_close(px.mean, plain.mean)


@pytest.mark.parametrize(("channels", "levels"), [(1, 17), (3, 3)])
def test_samples_of_the_mixture_agree_with_its_probabilities(channels: int, levels: int) -> None:
    assert_samples_agree(mixture(channels, 3, levels), every_image(levels, channels))


def test_mean_of_the_mixture_is_exact_in_the_first_channel_and_close_in_others() -> None:
    px, x = mixture(3, 3, 5), every_image(5, 3)
    exact = torch.einsum("nb,nc->bc", log_probabilities(px, x).exp(), x.flatten(1))
    mean = px.mean.flatten(1)
    torch.testing.assert_close(mean[:, 0], exact[:, 0], rtol=1e-9, atol=1e-12)
    assert (mean - exact).abs().mean() < 0.03
    # Within the range and at scales larger than a level, the mean level is linear in m_kc, so the mean is exact.
    loc, coefficients = 0.5 + 0.02 * px.loc[:, :2], px.coefficients[:, :1] / 10
    narrow, x = (
        DiscretizedLogisticMixture(px.logits, loc, torch.full_like(loc, 0.03), coefficients, 33),
        every_image(33, 2),
    )
    exact = torch.einsum("nb,nc->bc", log_probabilities(narrow, x).exp(), x.flatten(1))
    torch.testing.assert_close(narrow.mean.flatten(1), exact, rtol=0, atol=1e-4)


def test_mixture_has_finite_values_and_gradients_far_from_its_means() -> None:
    parts = torch.randn(1, 2, 1, 1), torch.full((1, 3, 2, 1, 1), 40.0), torch.full((1, 3, 2, 1, 1), 0.01 / 255)
    parameters = [part.requires_grad_() for part in (*parts, torch.full((1, 3, 2, 1, 1), 0.9))]
    x = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1)
    log_p = DiscretizedLogisticMixture(*parameters, 256).log_prob(x)
    assert log_p.isfinite().all() and log_p < -1e5
    log_p.sum().backward()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in parameters)
    assert parameters[1].grad is not None and parameters[1].grad[0, 0].sum().item() == pytest.approx(-25500, rel=1e-3)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_categorical_is_a_softmax(levels: int, dtype: torch.dtype, tolerance: float) -> None:
    logits = torch.randn(6, 1, levels, 1, 1, dtype=dtype) * torch.tensor([0, 1, 3, 10, 30, 100]).reshape(-1, 1, 1, 1, 1)
    px, x = CategoricalPixels(logits), every_image(levels, dtype=dtype)
    assert_sums_to_one(px, x, tolerance)
    p = logits.flatten(1).softmax(1).T
    torch.testing.assert_close(log_probabilities(px, x).exp(), p)
    torch.testing.assert_close(px.mean.flatten(), (p * x.flatten(1)).sum(0))
    if levels == 17:
        assert_samples_agree(px, x)


def test_categorical_sums_over_pixels_and_broadcasts_over_samples() -> None:
    logits, level = torch.randn(2, 5, 3, 4, 2, 3, requires_grad=True), torch.randint(4, (5, 3, 2, 3))
    px = CategoricalPixels(logits)
    assert px.batch_shape == (2, 5) and px.event_shape == (3, 2, 3)
    chosen = (logits.log_softmax(3) * functional.one_hot(level, 4).movedim(-1, 2)).sum((2, 3, 4, 5))
    torch.testing.assert_close(px.log_prob(level / 3), chosen)
    torch.testing.assert_close(px.expand((7, 2, 5)).log_prob(level / 3)[3], chosen)
    assert px.expand((7, 2, 5)).sample((2,)).shape == (2, 7, 2, 5, 3, 2, 3)
    weights = torch.randn(2, 5)
    (expected,) = torch.autograd.grad((chosen * weights).sum(), logits)
    for order in ((0, 1, 2, 3, 4, 5), (0, 1, 4, 5, 2, 3)):  # the second is the layout after channels-last convolutions
        stored = logits.permute(order).contiguous().permute([order.index(index) for index in range(6)])
        (gradient,) = torch.autograd.grad((CategoricalPixels(stored).log_prob(level / 3) * weights).sum(), logits)
        torch.testing.assert_close(gradient, expected)
