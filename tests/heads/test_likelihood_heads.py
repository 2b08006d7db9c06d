"""Initial values and bounds of the parameters of likelihoods."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Beta as TorchBeta

from nelbo.errors import ConfigError
from nelbo.heads import (
    Beta,
    Categorical,
    DiscretizedGaussian,
    DiscretizedLogistic,
    DiscretizedLogisticMixture,
    Laplace,
    Likelihood,
    PerChannelGaussian,
)
from nelbo.heads.beta import CONCENTRATION_FLOOR, LOGIT_BOUND, concentration_ceiling
from nelbo.heads.discretized_mixture import SCALE_CEILING
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.laplace import LAPLACE_FLOOR
from tests.helpers.factors import LEVELS, LIKELIHOODS

FEATURES = torch.zeros(1, 3)
SHAPE = (2, 4, 4)
DISCRETIZED = [(DiscretizedLogistic, math.pi / math.sqrt(3)), (DiscretizedGaussian, 1.0)]
NEED_LEVELS = [
    DiscretizedLogistic,
    DiscretizedGaussian,
    partial(DiscretizedLogisticMixture, components=2),
    Categorical,
    Beta,
]


def two_channels(count: int = 2000, levels: int = 256) -> Tensor:
    """Return images with one channel uniform on [0, 1] and one on [0, 0.1], rounded to levels."""
    x = torch.rand(count, *SHAPE) * torch.tensor([1.0, 0.1]).reshape(2, 1, 1)
    return (x * (levels - 1)).round() / (levels - 1)


DEVIATIONS = torch.tensor([1.0, 0.1]) / math.sqrt(12)


@pytest.mark.parametrize(("kind", "deviation"), DISCRETIZED)
def test_discretized_densities_have_one_scale_per_channel_from_the_data_and_a_lower_bound(
    kind: type, deviation: float
) -> None:
    head, x = kind((3,), SHAPE, levels=256), two_channels()
    head.initialize(x)
    px = head(FEATURES)
    torch.testing.assert_close(px.scale.flatten() * deviation, DEVIATIONS, rtol=0.02, atol=0)
    torch.testing.assert_close(px.loc[0], x.mean(0), rtol=0, atol=2e-3)
    head.initialize(torch.full((10, *SHAPE), 0.2))
    with torch.no_grad():
        head.log_scale.sub_(100)
    assert head(FEATURES).log_prob(torch.full(SHAPE, 0.2)).isfinite()
    assert head(FEATURES).scale.min().item() * 255 == pytest.approx(0.01)


@pytest.mark.parametrize("head", NEED_LEVELS)
def test_invalid_levels_raise(head: type) -> None:
    for levels in (1, 0, 2.5, "many", None, True):
        with pytest.raises(ConfigError, match="levels="):
            head((3,), SHAPE, levels=levels)


def test_invalid_components_raise() -> None:
    for components in (0, -1, 2.5, "many"):
        with pytest.raises(ConfigError, match="components="):
            DiscretizedLogisticMixture((3,), SHAPE, levels=4, components=components)  # type: ignore[arg-type]


def test_sigma_per_channel_starts_at_the_standard_deviation_of_the_data() -> None:
    head, x = PerChannelGaussian((3,), SHAPE), two_channels()
    head.initialize(x)
    assert head.log_sigma.shape == (2, 1, 1)
    torch.testing.assert_close(head(FEATURES).shared_scale.flatten(), DEVIATIONS, rtol=0.02, atol=0)


def test_laplace_starts_at_the_mean_absolute_deviation() -> None:
    head, x = Laplace((3,), SHAPE), two_channels()
    head.initialize(x)
    px = head(FEATURES)
    # For uniform pixels it is a quarter of the range.
    assert px.shared_scale.item() == pytest.approx((0.25 + 0.025) / 2, rel=0.02)
    with torch.no_grad():
        head.project.layers[0].weight.zero_()
    torch.testing.assert_close(head(FEATURES).mean[0], x.mean(0))


def largest_log_density(y: float, ceiling: float) -> float:
    """Return the largest log-density, in nats, of any Beta with concentration `ceiling` at y."""
    mean = torch.sigmoid(torch.linspace(-LOGIT_BOUND, LOGIT_BOUND, 100_001).double())
    return TorchBeta(mean * ceiling, (1 - mean) * ceiling).log_prob(torch.tensor(y).double()).max().item()


EDGE = 1 / 512
CEILING = concentration_ceiling(256)
CONSTANT = [
    (PerChannelGaussian, 0.5, -math.log(SIGMA_FLOOR) - 0.5 * math.log(2 * math.pi)),
    (Laplace, 0.5, -math.log(2 * LAPLACE_FLOOR)),
    (partial(Beta, levels=256), 0.5, largest_log_density(0.5, CEILING) + math.log(255 / 256)),
    (partial(Beta, levels=256), 0.0, largest_log_density(EDGE, CEILING) + math.log(255 / 256)),
    (partial(Beta, levels=256), 1.0, largest_log_density(1 - EDGE, CEILING) + math.log(255 / 256)),
]


@pytest.mark.parametrize(("make", "value", "bound"), CONSTANT)
def test_density_of_constant_pixels_is_bounded(make: type, value: float, bound: float) -> None:
    """Trained on a constant image, the log-density approaches its bound, which is below 6.5 nats per pixel."""
    head: Likelihood = make((1,), (1, 4, 4))
    x, features = torch.full((8, 1, 4, 4), value), torch.zeros(8, 1)
    head.initialize(x)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        loss = -head(features, x).log_prob(x).mean() / 16
        loss.backward()
        optimizer.step()
    assert -bound - 1e-3 <= loss.item() <= -bound + 0.5
    assert bound < 6.5


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_outermost_level_of_beta_has_at_least_the_deviation_of_quantisation_noise(levels: int) -> None:
    y, concentration = torch.tensor(0.5 / levels), torch.tensor(concentration_ceiling(levels))
    deviation = TorchBeta(y * concentration, (1 - y) * concentration).stddev
    assert deviation.item() == pytest.approx(1 / (levels * math.sqrt(12)), rel=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("push", [-1e4, 0.0, 1e4])
def test_beta_stays_within_its_bounds_for_extreme_parameters(levels: int, push: float) -> None:
    head = Beta((3,), SHAPE, levels=levels)
    with torch.no_grad():
        head.raw_concentration.add_(push)
    features = torch.tensor([-1e4, -1.0, 0.0, 1.0, 1e4]).reshape(5, 1).expand(5, 3)
    px = head(features)
    assert px.logits.abs().max() <= LOGIT_BOUND
    concentration = px.concentration.max().item()
    assert CONCENTRATION_FLOOR * (1 - 1e-5) <= concentration <= concentration_ceiling(levels) * (1 + 1e-5)
    for value in (0.0, 0.37, 0.999, 1.0):
        log_p = px.log_prob(torch.full(SHAPE, value))
        assert log_p.isfinite().all()
        gradients = torch.autograd.grad(log_p.sum(), list(head.parameters()), retain_graph=True)
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_beta_starts_at_the_mean_and_variance_of_the_data(levels: int) -> None:
    head = Beta((3,), (1, 4, 4), levels=levels)
    with torch.no_grad():
        head.project.layers[0].weight.zero_()
        head.project.layers[0].bias.fill_(-0.5)
        head.raw_concentration.fill_(-0.3)
    truth = head(FEATURES)
    x = truth.sample((20_000,)).squeeze(1)
    head.initialize(x)
    start = head(FEATURES)
    torch.testing.assert_close(start.mean, truth.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(start.concentration, truth.concentration, rtol=0.05, atol=0)


@pytest.mark.parametrize("components", [1, 2, 10])
def test_mixture_starts_at_the_mean_and_deviation_of_each_channel(components: int) -> None:
    head = DiscretizedLogisticMixture((3,), SHAPE, levels=256, components=components)
    x = 0.3 + two_channels() / 4  # far from the outermost levels, where clamping would reduce the deviation
    head.initialize(x)
    px = head(FEATURES)
    torch.testing.assert_close(px.mean[0], x.mean(0), rtol=0, atol=5e-3)
    samples = px.sample((5000,))
    deviation = samples.var(0).mean((0, 2, 3)).sqrt()
    torch.testing.assert_close(deviation, DEVIATIONS / 4, rtol=0.05, atol=0)


def test_scales_of_a_mixture_are_bounded() -> None:
    head = DiscretizedLogisticMixture((3,), (3, 2, 2), levels=256, components=4)
    features = torch.tensor([-1e5, -1e3, 0.0, 1e3, 1e5]).reshape(5, 1).expand(5, 3).requires_grad_()
    px = head(features)
    assert px.scale.min().item() * 255 == pytest.approx(0.01)
    assert px.scale.max() <= SCALE_CEILING + 0.01 and px.coefficients.abs().max() <= 1
    log_p = px.log_prob(torch.rand(3, 2, 2).mul(255).round() / 255)
    assert log_p.isfinite().all()
    log_p.sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()


@pytest.mark.parametrize("feature_shape", [(3,), (3, 4, 4)])
def test_categorical_starts_at_the_frequencies_of_the_levels(feature_shape: tuple[int, ...]) -> None:
    """They are those of each pixel if it has its own bias, and those of all pixels of a channel for a convolution."""
    head, x = Categorical(feature_shape, SHAPE, levels=5), two_channels(2500, levels=5)
    x[:, 0, 0] = 0  # as at the border of MNIST images
    head.initialize(x)
    px = head(torch.zeros(1, *feature_shape))
    counts = torch.stack([(x * 4).round().eq(level).sum(0) for level in range(5)], dim=1)  # (C, L, H, W)
    frequency = (counts + 1) / (2500 + 5)
    if len(feature_shape) == 3:
        frequency = frequency.mean((-2, -1), keepdim=True).expand_as(frequency)
    torch.testing.assert_close(px.logits.softmax(-3)[0], frequency)
    assert (px.mean[0].mean((1, 2)) - x.mean((0, 2, 3))).abs().max() < 2e-3


STARTS = {name: make for name, make in LIKELIHOODS.items() if not name.startswith(("gaussian_fixed", "gaussian_sch"))}


def dark_border(levels: int = LEVELS) -> Tensor:
    """Return images with pixels that are nearly always 0, as at the border of MNIST images, and a bright centre."""
    brightness = torch.full((1, 6, 6), 0.03)
    brightness[:, 2:4, 2:5] = 0.8
    return torch.bernoulli(brightness.expand(4000, 1, 6, 6)) * torch.randint(1, levels, (4000, 1, 6, 6)) / (levels - 1)


@pytest.mark.parametrize("feature_shape", [(3,), (3, 6, 6)])
@pytest.mark.parametrize("name", STARTS)
def test_heads_start_at_the_mean_of_the_pixels_that_share_a_bias(name: str, feature_shape: tuple[int, ...]) -> None:
    """The bias of a convolution is the link of the mean over pixels, not the mean of the links of single pixels."""
    x = dark_border(2 if name == "bernoulli" else LEVELS)
    head = STARTS[name](feature_shape, x.shape[1:]).eval()
    head.initialize(x)
    px, start = head(torch.zeros(1, *feature_shape)), x.mean(0)
    if len(feature_shape) == 3:
        start = start.mean((1, 2), keepdim=True).expand_as(start)
    levels = name.startswith(("discretized", "categorical"))  # mass beyond the ends is on the outermost levels
    least = 0.0741 if name == "continuous_bernoulli" else 0.0  # the mean at the most extreme initial logit, -13.5
    torch.testing.assert_close(px.mean[0], start.clamp(least, 1 - least), rtol=0, atol=0.15 if levels else 1e-4)
    variances = (x - start).square().mean(0)
    if name.startswith("gaussian"):
        variance = variances if name == "gaussian_per_pixel" else variances.mean().expand_as(variances)
        torch.testing.assert_close(px.base_dist.scale[0].square(), variance, rtol=1e-2, atol=0)
    elif name == "laplace":
        torch.testing.assert_close(px.base_dist.scale.unique(), (x - start).abs().mean().reshape(1))
    elif name == "beta":
        y = (start * (LEVELS - 1) + 0.5) / LEVELS
        variance = variances.mean() * ((LEVELS - 1) / LEVELS) ** 2
        torch.testing.assert_close(px.concentration.flatten(), ((y * (1 - y)).mean() / variance - 1).reshape(1))
    elif name.startswith("discretized") and "mixture" not in name:
        torch.testing.assert_close((px.scale.square().flatten() * head.deviation**2), variances.mean().reshape(1))


def test_convolutional_bernoulli_starts_at_the_entropy_of_its_mean() -> None:
    """The initial loss is 36 times the entropy of a Bernoulli variable with the mean of all pixels."""
    x = dark_border(2)
    head = LIKELIHOODS["bernoulli"]((3, 6, 6), x.shape[1:])
    head.initialize(x)
    mean = x.mean().double()
    entropy = -36 * (mean * mean.log() + (1 - mean) * (1 - mean).log())
    torch.testing.assert_close(-head(torch.zeros(1, 3, 6, 6)).log_prob(x).mean().double(), entropy, rtol=1e-5, atol=0)


@pytest.mark.parametrize("feature_shape", [(3,), (3, 6, 6)])
def test_continuous_bernoulli_starts_at_the_most_probable_constant(feature_shape: tuple[int, ...]) -> None:
    """The gradient of the bias is 0. It would not be at the logit of the mean, which is not the optimal parameter."""
    x = 0.3 * dark_border() + 0.35  # within the range of initial means
    head = LIKELIHOODS["continuous_bernoulli"](feature_shape, x.shape[1:])
    head.initialize(x)
    head(torch.zeros(1, *feature_shape)).log_prob(x).mean().backward()
    gradient = head.project._affine.bias.grad
    assert gradient.abs().max() < 1e-4 and head.project._affine.bias.detach().abs().max() > 0.1


@pytest.mark.parametrize("size", [(3,), (3, 4, 4)])
@pytest.mark.parametrize("make", NEED_LEVELS)
def test_likelihoods_of_levels_train_with_any_number_of_levels(make: type, size: tuple[int, ...]) -> None:
    """Training steps from the initial values reduce the loss, and all losses are finite."""
    for levels in (2, 17, 256):
        x = torch.randint(levels, (64, *SHAPE)) / (levels - 1)
        x[:, :, 0] = 0
        head: Likelihood = make(size, SHAPE, levels=levels)
        head.initialize(x)
        features = torch.randn(64, *size)
        assert head(features).support.check(x).all()
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            loss = -head(features, x).log_prob(x).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert all(map(math.isfinite, losses)) and losses[-1] < losses[0]
