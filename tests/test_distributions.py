"""Closed forms of what torch.distributions lacks."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from nelbo.distributions import Delta, DiagonalNormal, DiscretizedLogistic, StandardNormal, temper


def normal(*shape: int) -> DiagonalNormal:
    return DiagonalNormal(torch.randn(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64) + 0.1)


def test_kl_equals_torchs_own_and_is_zero_at_itself() -> None:
    p, q = normal(5, 3), normal(3)
    theirs = kl_divergence(Independent(Normal(p.loc, p.scale), 1), Independent(Normal(q.loc.expand(5, 3), q.scale), 1))
    torch.testing.assert_close(kl_divergence(p, q), theirs)
    torch.testing.assert_close(p.kl_per_unit(q).sum(-1), theirs)
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros(5, dtype=torch.float64))


def test_kl_to_the_standard_normal_is_that_of_kingma_and_welling() -> None:
    p = normal(4, 6)
    standard = StandardNormal(torch.zeros(6).double())
    expected = -0.5 * (1 + p.scale.square().log() - p.loc.square() - p.scale.square()).sum(-1)
    torch.testing.assert_close(kl_divergence(p, standard), expected)
    plain = DiagonalNormal(standard.loc, standard.scale)
    torch.testing.assert_close(kl_divergence(p, plain), expected)
    torch.testing.assert_close(kl_divergence(DiagonalNormal(p.loc, p.scale, p.scale.log()), standard), expected)


def test_expand_keeps_the_class() -> None:
    q = normal(3).expand((7, 5))
    assert isinstance(q, DiagonalNormal) and q.batch_shape == (7, 5) and q.event_shape == (3,)


def test_delta_has_samples_and_no_density() -> None:
    delta = Delta(torch.randn(4, 2, requires_grad=True))
    assert delta.rsample((3,)).shape == (3, 4, 2) and delta.rsample().requires_grad
    torch.testing.assert_close(delta.mean, delta.sample((2,))[1])
    assert not delta.variance.any()
    with pytest.raises(NotImplementedError, match="no log q"):
        delta.log_prob(delta.loc)


def test_temper_scales_the_spread() -> None:
    q = normal(2, 3)
    torch.testing.assert_close(temper(q, 0.5).scale, q.scale / 2)
    torch.testing.assert_close(temper(q, 0.5).mean, q.mean)
    with pytest.raises(NotImplementedError, match="Delta"):
        temper(Delta(torch.zeros(2)), 0.5)


def discretized(levels: int, dtype: torch.dtype = torch.float64) -> tuple[DiscretizedLogistic, torch.Tensor]:
    """One pixel, at locations inside and far outside, with scales from a hundredth of a level to everything."""
    loc = torch.tensor([-3.0, -0.01, 0.0, 0.37, 0.5, 1.0, 1.2, 40.0], dtype=dtype)
    scale = torch.tensor([0.01 / (levels - 1), 0.3 / (levels - 1), 0.1, 10.0], dtype=dtype)
    loc, scale = (part.flatten().reshape(-1, 1, 1, 1) for part in torch.meshgrid(loc, scale, indexing="ij"))
    return DiscretizedLogistic(loc, scale, levels), torch.arange(levels, dtype=dtype) / (levels - 1)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_discretized_logistic_sums_to_one(levels: int, dtype: torch.dtype, tolerance: float) -> None:
    px, values = discretized(levels, dtype)
    log_p = px.log_prob(values.reshape(-1, 1, 1, 1, 1))
    assert log_p.shape == (levels, 32) and log_p.isfinite().all()
    total = log_p.double().logsumexp(0).exp()
    torch.testing.assert_close(total, torch.ones(32, dtype=torch.float64), rtol=0, atol=tolerance)


def test_discretized_logistic_is_a_difference_of_logistic_distribution_functions() -> None:
    px, values = discretized(17)
    half = 0.5 / 16
    upper = torch.sigmoid((values.reshape(-1, 1, 1, 1, 1) + half - px.loc) / px.scale)
    lower = torch.sigmoid((values.reshape(-1, 1, 1, 1, 1) - half - px.loc) / px.scale)
    upper[-1], lower[0] = 1, 0
    exact = (upper - lower).flatten(1)
    resolved = exact > 1e-8  # where a difference of two numbers near 1 has digits
    torch.testing.assert_close(px.log_prob(values.reshape(-1, 1, 1, 1, 1)).exp()[resolved], exact[resolved])
    assert resolved.sum() > 100


def test_discretized_logistic_far_from_its_mean_keeps_value_and_gradient() -> None:
    """40 is 39 away and the scale 0.1: log P of the top level is -390 short of certain in the lower ones."""
    loc = torch.full((1, 1, 1), 40.0, requires_grad=True)
    px = DiscretizedLogistic(loc, torch.full((1, 1, 1), 0.1), 256)
    log_p = px.log_prob(torch.full((1, 1, 1), 100 / 255))
    # In the tail F(x) is exp((x - loc) / scale).
    step = 0.5 / 255 / 0.1
    expected = (100 / 255 - 40) / 0.1 + step + math.log(-math.expm1(-2 * step))
    assert log_p.item() == pytest.approx(expected, rel=1e-5)
    log_p.backward()
    assert loc.grad is not None and loc.grad.item() == pytest.approx(-10, rel=1e-4)


def test_discretized_logistic_samples_and_mean_match_its_probabilities() -> None:
    px, values = discretized(17)
    p = px.log_prob(values.reshape(-1, 1, 1, 1, 1)).exp()
    torch.testing.assert_close(px.mean.flatten(), (p * values[:, None]).sum(0), rtol=1e-9, atol=1e-12)
    drawn = px.sample((20_000,)).flatten(1)
    assert px.support.check(px.sample()).all()
    for level, value in enumerate(values):
        share = ((drawn - value).abs() < 1e-6).double().mean(0)
        assert ((share - p[level]).abs() <= 5 * (p[level] * (1 - p[level]) / 20_000).sqrt() + 1e-9).all()


def test_levels_are_the_support() -> None:
    px = DiscretizedLogistic(torch.zeros(3, 1, 4, 4), torch.ones(1, 1, 1), 256)
    assert px.support.is_discrete and px.expand((2, 3)).batch_shape == (2, 3)
    eight_bits = torch.arange(256).float().reshape(1, 16, 16) / 255
    assert px.support.check(eight_bits)
    for bad in (eight_bits + 1 / 255, -eight_bits, eight_bits * 0.999, (eight_bits * 255 + 0.5) / 256):
        assert not px.support.check(bad)
    seventeen = DiscretizedLogistic(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 17).support
    assert not seventeen.check(eight_bits)
    stored = (torch.arange(17) * 255 / 16).round().reshape(1, 1, 17) / 255  # 8 bits cannot hold them exactly
    assert seventeen.check(stored) and not seventeen.check(stored + 0.01)
