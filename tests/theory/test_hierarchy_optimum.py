"""Optima of linear hierarchical VAEs: against descent from random weights, and against probabilistic PCA.

Shapes: P pixels, D_1 and D_2 latents.
"""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.theory.gaussians import independent, standard_normal
from nelbo.theory.hierarchy import LinearHierarchy, LinearPosterior
from nelbo.theory.hierarchy_optimum import TopDownOptimum, bottom_up_optimum, top_down_optimum
from nelbo.theory.spectrum import Spectrum
from nelbo.theory.water_filling import learned_sigma2, optimum
from tests.helpers.descent import minimize
from tests.helpers.hierarchies import normal

VALUES = torch.tensor([6.0, 3.0, 1.5, 0.7, 0.3], dtype=torch.float64)
SIGMA2 = 0.5
STARTS = 3


def gaussian_kl(mean_square: Tensor, variances: Tensor) -> Tensor:
    """Return the mean of KL(N(m, diag(v)) || N(0, I)) over images, from the mean of |m|^2."""
    return 0.5 * (mean_square + (variances - 1 - variances.log()).sum())


def squared(matrix: Tensor, variances: Tensor) -> Tensor:
    """Return E |matrix y|^2 for independent numbers y with these variances."""
    return (matrix.square() * variances).sum()


def top_down_terms(sees_all: bool, b: Tensor, s: Tensor, f: Tensor, g: Tensor, t: Tensor, w: Tensor, v: Tensor):
    """Return reconstruction, KL_1 and KL_2, without the classes of the package.

    In the eigenbasis of the images, z_1 = b x + noise of variance exp(s). The innovation of the second level, u = z_2 -
    A z_1, is N(0, I) under p and f x + g z_1 + noise of variance exp(t) under q. The decoder is w u + v z_1, where
    v = w A if it sees z_2 alone.
    """
    v = v if sees_all else w @ v
    s, t, direct, noise = s.exp(), t.exp(), f + g @ b, v + w @ g
    kl_1 = gaussian_kl(squared(b, VALUES), s)
    kl_2 = gaussian_kl(squared(direct, VALUES) + squared(g, s), t)
    error = squared(torch.eye(len(VALUES)) - v @ b - w @ direct, VALUES) + squared(noise, s) + squared(w, t)
    return 0.5 * error / SIGMA2 + 0.5 * len(VALUES) * math.log(2 * math.pi * SIGMA2), kl_1, kl_2


def descend(terms, betas: tuple[float, float], shapes: list[tuple[int, ...]], steps: int = 200):
    """Return the smallest loss over several random starts, and the rates of both levels there."""
    generator = torch.Generator().manual_seed(0)

    def loss(*weights: Tensor) -> Tensor:
        reconstruction, kl_1, kl_2 = terms(*weights)
        return reconstruction + betas[0] * kl_1 + betas[1] * kl_2

    starts = ([0.5 * normal(*shape, generator=generator) for shape in shapes] for _ in range(STARTS))
    value, weights = min((minimize(loss, *start, steps=steps) for start in starts), key=lambda found: found[0])
    return value, [rate.item() for rate in terms(*weights)[1:]]


def shapes_of(d1: int, d2: int, sees_all: bool) -> list[tuple[int, ...]]:
    pixels = len(VALUES)
    return [(d1, pixels), (d1,), (d2, pixels), (d2, d1), (d2,), (pixels, d2), (pixels if sees_all else d2, d1)]


@pytest.mark.parametrize("betas", [(1.0, 2.5), (2.5, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize(("d1", "d2"), [(1, 2), (2, 1), (3, 3)])
def test_descent_ends_at_the_optimum_if_the_decoder_sees_all(d1: int, d2: int, betas: tuple[float, float]) -> None:
    best = top_down_optimum(VALUES, [d1, d2], betas, SIGMA2, "all")
    loss, rates = descend(partial(top_down_terms, True), betas, shapes_of(d1, d2, True))
    assert best.is_attained and loss == pytest.approx(best.loss, abs=1e-6)
    assert sum(rates) == pytest.approx(best.rates.sum().item(), abs=1e-3)
    if betas[0] != betas[1]:
        assert rates == pytest.approx(best.rates.tolist(), abs=1e-3)


@pytest.mark.parametrize("betas", [(2.5, 1.0), (0.5, 0.5)])
@pytest.mark.parametrize(("d1", "d2"), [(1, 2), (2, 1), (3, 3)])
def test_descent_ends_at_the_optimum_if_the_decoder_sees_the_lowest(
    d1: int, d2: int, betas: tuple[float, float]
) -> None:
    """The upper level is not worth more than the lower one, and collapses if it is worth less."""
    best = top_down_optimum(VALUES, [d1, d2], betas, SIGMA2, "lowest")
    loss, rates = descend(partial(top_down_terms, False), betas, shapes_of(d1, d2, False))
    assert best.is_attained and loss == pytest.approx(best.loss, abs=1e-6)
    assert sum(rates) == pytest.approx(best.rates.sum().item(), abs=1e-3)
    if betas[0] != betas[1]:
        assert best.active[0] == 0 and rates[0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("d1", "d2"), [(1, 2), (2, 1), (2, 3)])
def test_with_a_cheaper_upper_level_the_infimum_is_approached_and_not_attained(d1: int, d2: int) -> None:
    """Descent stays above it, though below what z_2 attains alone; with A = v / w, the loss tends to it for w -> 0."""
    betas = (1.0, 2.5)
    best = top_down_optimum(VALUES, [d1, d2], betas, SIGMA2, "lowest")
    loss, _ = descend(partial(top_down_terms, False), betas, shapes_of(d1, d2, False), steps=80)
    assert not best.is_attained
    assert best.loss < loss < top_down_optimum(VALUES, [d1, d2], (betas[1], betas[1]), SIGMA2).loss - 0.1
    units = min(d1, d2)
    theta = torch.tensor([betas[0]] * units + [betas[1]] * (d2 - units)).double() * SIGMA2
    coded = VALUES[:d2].maximum(theta)
    gaps = []
    for width in (1e-1, 1e-2, 1e-3):
        b, s, f, g, t, w, v = (torch.zeros(shape).double() for shape in shapes_of(d1, d2, False))
        for unit in range(d2):
            weight, gain = (coded - theta)[unit].sqrt(), (coded - theta)[unit].sqrt() / coded[unit]
            log_variance = (theta / coded)[unit].log()
            if unit < units:
                b[unit, unit], s[unit], w[unit, unit], v[unit, unit] = gain, log_variance, width, weight / width
            else:
                f[unit, unit], t[unit], w[unit, unit] = gain, log_variance, weight
        reconstruction, kl_1, kl_2 = top_down_terms(False, b, s, f, g, t, w, v)
        gaps.append((reconstruction + betas[0] * kl_1 + betas[1] * kl_2).item() - best.loss)
        assert [kl_1.item(), kl_2.item()] == pytest.approx(best.rates.tolist())
    assert gaps == pytest.approx([0.5 * units * width**2 / SIGMA2 for width in (1e-1, 1e-2, 1e-3)], rel=1e-6)


@pytest.mark.parametrize("sees", ["all", "lowest"])
@pytest.mark.parametrize("betas", [(1.5, 2.5, 1.0), (2.5, 1.0, 1.5)])
def test_three_levels_of_one_latent(betas: tuple[float, float, float], sees: str) -> None:
    """Descent over a model and a q of the package; images are the points mean +- sqrt(P lambda_i) u_i."""
    pixels = 4
    best = top_down_optimum(VALUES[:pixels], [1, 1, 1], betas, SIGMA2, sees)
    corners = torch.diag((pixels * VALUES[:pixels]).sqrt())
    x, zero = torch.cat([corners, -corners]), torch.zeros(1).double()
    shapes = [(1, 1), (1, 2), (pixels, 3 if sees == "all" else 1), (1, pixels), (1, pixels + 1), (1, pixels + 2), (3,)]

    def loss(a2: Tensor, a3: Tensor, w: Tensor, q1: Tensor, q2: Tensor, q3: Tensor, scales: Tensor) -> Tensor:
        w = w if sees == "all" else torch.cat([torch.zeros(pixels, 2).double(), w], dim=1)
        likelihood = independent(w, torch.zeros(pixels).double(), torch.full((pixels,), SIGMA2**0.5).double())
        lower = [independent(a, zero, zero + 1) for a in (a2, a3)]
        q = LinearPosterior(
            tuple(independent(m, zero, s.exp()) for m, s in zip((q1, q2, q3), scales.split(1), strict=True))
        )
        return LinearHierarchy((standard_normal(1), *lower), likelihood).terms(x, q).loss(betas).mean()

    generator = torch.Generator().manual_seed(3)
    starts = ([0.5 * normal(*shape, generator=generator) for shape in shapes] for _ in range(2))
    found = min(minimize(loss, *start, steps=100)[0] for start in starts)
    assert found == pytest.approx(best.loss, abs=1e-6 if best.is_attained else 0.05) and found > best.loss - 1e-9


@pytest.mark.parametrize("sees", ["all", "lowest"])
def test_no_model_near_the_optimum_is_better(sees: str) -> None:
    """Random models at many distances from the optimal weights, each with its best q, for random betas."""
    generator, pixels, margins = torch.Generator().manual_seed(4), len(VALUES), []
    corners = torch.diag((pixels * VALUES).sqrt())
    x, sigma = torch.cat([corners, -corners]), torch.full((pixels,), SIGMA2**0.5).double()
    for _ in range(150):
        dims = torch.randint(1, 4, (2,), generator=generator).tolist()
        betas = torch.rand(2, generator=generator).mul(3).add(0.1).tolist()
        best = top_down_optimum(VALUES, dims, betas, SIGMA2, sees)
        size = 10 ** (4 * torch.rand((), generator=generator) - 4)
        lower_map = size * normal(dims[1], dims[0], generator=generator)
        groups = [size * normal(pixels, dim, generator=generator) for dim in dims]
        for level, (beta, group) in enumerate(zip(betas, groups, strict=True), 1):
            for unit, pixel in enumerate((best.levels == level).nonzero().flatten().tolist()):
                group[pixel, unit] += (VALUES[pixel] - beta * SIGMA2).sqrt()
        if sees == "lowest":
            groups[0] = torch.zeros(pixels, dims[0]).double()
        lower = independent(lower_map, torch.zeros(dims[1]).double(), torch.ones(dims[1]).double())
        model = LinearHierarchy((standard_normal(dims[0]), lower), independent(torch.cat(groups, 1), 0 * sigma, sigma))
        margins.append(model.terms(x, model.best_posterior(betas)).loss(betas).mean().item() - best.loss)
    assert min(margins) > -1e-12 and min(margins) < 1e-6 and max(margins) > 1


def total(best: TopDownOptimum) -> list[float]:
    return [best.loss, best.error, best.distortion, best.rates.sum().item(), sum(best.active)]


@pytest.mark.parametrize(("sees", "units"), [("lowest", 2), ("all", 3)])
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_equal_betas_are_one_level_with_as_many_units(sees: str, units: int, beta: float) -> None:
    one = optimum(Spectrum(VALUES, VALUES), units, beta, SIGMA2)
    expected = [one.distortion + beta * one.rate, one.error, one.distortion, one.rate, one.active]
    assert total(top_down_optimum(VALUES, [1, 2], [beta, beta], SIGMA2, sees)) == pytest.approx(expected)


def test_with_betas_of_one_it_is_the_likelihood_of_probabilistic_pca() -> None:
    """Tipping & Bishop 1999: the largest likelihood, for a learned sigma; a model with these weights has it too."""
    sigma2 = learned_sigma2(VALUES, 2, 1.0)
    assert sigma2 == pytest.approx(VALUES[2:].mean().item())
    best = top_down_optimum(VALUES, [1, 2], [1.0, 1.0], sigma2)
    variances = torch.cat([VALUES[:2], VALUES.new_full((3,), sigma2)])
    assert best.loss == pytest.approx(0.5 * (variances.log().sum() + 5 * math.log(2 * math.pi) + 5).item())
    # z_1 carries any share of the first component; here a third of its variance.
    weight = (VALUES[0] - sigma2).sqrt()
    lower = independent(torch.tensor([[0.5**0.5], [0.0]]).double(), torch.zeros(2).double(), torch.ones(2).double())
    decoder = torch.zeros(5, 3).double()
    decoder[0, 1], decoder[1, 2] = weight / 1.5**0.5, (VALUES[1] - sigma2).sqrt()
    model = LinearHierarchy(
        (standard_normal(1), lower),
        independent(decoder, torch.zeros(5).double(), torch.full((5,), sigma2**0.5).double()),
    )
    corners = torch.diag((5 * VALUES).sqrt())
    terms = model.terms(torch.cat([corners, -corners]), model.best_posterior(diagonal=True))
    assert -terms.elbo.mean().item() == pytest.approx(best.loss)
    rates = terms.kl.mean(0)
    assert rates.sum().item() == pytest.approx(best.rates.sum().item()) and bool((rates > 0.1).all())


def bottom_up_terms(t: Tensor, s2: float, b: Tensor, w: Tensor, a: Tensor, c: Tensor, log_variance: Tensor):
    """Return reconstruction, E KL(q(z_1|z_2) || p(z_1)) and E log q(z_2|x) / p(z_2|z_1).

    z_2 = b x + noise with the variances t, (D_2,), z_1 = c z_2 + noise of variance exp(log_variance), and p(z_2|z_1) =
    N(a z_1, s2 I).
    """
    d2, variances = len(b), log_variance.exp()
    spread = (b * VALUES) @ b.T + torch.diag(t)
    kl_1 = gaussian_kl(torch.trace(c @ spread @ c.T), variances)
    left = torch.eye(d2) - a @ c
    distance = torch.trace(left @ spread @ left.T) + squared(a, variances)
    log_ratio = 0.5 * (distance / s2 - d2 + (s2 / t).log().sum())
    error = squared(torch.eye(len(VALUES)) - w @ b, VALUES) + squared(w, t)
    return 0.5 * error / SIGMA2 + 0.5 * len(VALUES) * math.log(2 * math.pi * SIGMA2), kl_1, log_ratio


@pytest.mark.parametrize(
    ("d1", "d2", "betas", "t", "s2", "upper", "lower"),
    [
        (2, 2, (1.0, 1.0), 0.3, 1.0, 2, 2),  # both levels active
        (1, 3, (1.0, 4.0), 1.0, 1.0, 1, 2),  # z_1 has a latent for one of three directions
        (2, 3, (10.0, 2.0), 2.0, 1.0, 0, 2),  # z_1 collapsed
        (2, 2, (1.0, 2.5), 0.3, 0.5, 2, 2),
        (3, 2, (1.0, 1.0), 2.0, 1.0, 2, 2),
        (2, 3, (8.0, 3.0), 5.0, 0.5, 2, 1),  # z_1 codes a direction that depends on x, and one that is noise
        (1, 1, (20.0, 20.0), 0.8, 1.0, 0, 0),  # both collapsed
    ],
)
def test_descent_ends_at_the_bottom_up_optimum(
    d1: int, d2: int, betas: tuple[float, float], t: float, s2: float, upper: int, lower: int
) -> None:
    best = bottom_up_optimum(VALUES, [d1, d2], betas, SIGMA2, t, s2)
    assert (int(best.upper.sum()), int(best.lower.sum())) == (upper, lower)
    shapes = [(d2, len(VALUES)), (len(VALUES), d2), (d2, d1), (d1, d2), (d1,)]
    loss, rates = descend(partial(bottom_up_terms, torch.full((d2,), t).double(), s2), betas, shapes)
    assert loss == pytest.approx(best.loss, abs=1e-6)
    assert rates == pytest.approx(best.rates.tolist(), abs=1e-3)


def test_a_learned_variance_from_the_bottom_up_has_no_optimum_for_a_cheaper_upper_level() -> None:
    """The loss with larger and larger variances falls below that of any q from the top down, and on without bound."""
    betas, losses = (1.0, 2.0), [bottom_up_optimum(VALUES, [1, 1], (1.0, 2.0), SIGMA2, 10.0**k).loss for k in range(12)]
    assert torch.tensor(losses).diff().tolist() == pytest.approx([-0.5 * math.log(10)] * 11, abs=0.35)
    assert losses[-1] < top_down_optimum(VALUES, [1, 1], betas, SIGMA2).loss - 5


@pytest.mark.parametrize("betas", [(2.0, 1.0), (1.5, 1.5)])
def test_a_learned_variance_from_the_bottom_up_is_otherwise_as_from_the_top_down(betas: tuple[float, float]) -> None:
    def terms(log_t: Tensor, *weights: Tensor):
        return bottom_up_terms(log_t.exp(), 1.0, *weights)

    pixels, best = len(VALUES), top_down_optimum(VALUES, [1, 2], betas, SIGMA2)
    loss, _ = descend(terms, betas, [(2,), (2, pixels), (pixels, 2), (2, 1), (1, 2), (1,)])
    assert loss == pytest.approx(best.loss, abs=1e-6)


def test_eigenvalues_may_come_in_any_order() -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    best, other = (top_down_optimum(values, [1, 2], [1.0, 2.0], SIGMA2) for values in (VALUES, VALUES[order]))
    assert other.levels.tolist() == best.levels[order].tolist() and other.loss == pytest.approx(best.loss)


def test_numbers_out_of_range_are_refused() -> None:
    for betas, key in (([1.0], "betas"), ([1.0, 0.0], "betas[1]")):
        with pytest.raises(ConfigError) as refused:
            top_down_optimum(VALUES, [1, 2], betas, SIGMA2)
        assert refused.value.key == key
    with pytest.raises(ConfigError, match="must be one of all, lowest"):
        top_down_optimum(VALUES, [1, 2], [1.0, 1.0], SIGMA2, "some")
    with pytest.raises(ConfigError, match="must be two numbers"):
        bottom_up_optimum(VALUES, [1], [1.0], SIGMA2, 1.0)
