"""Gaussians, point masses, tempering and the support of levels, against closed forms."""

import pytest
import torch
from torch.distributions import Gamma, Independent, Normal, StudentT, kl_divergence

from nelbo.distributions import Delta, DiagonalNormal, DiscretizedLogistic, StandardNormal, temper


def normal(*shape: int) -> DiagonalNormal:
    return DiagonalNormal(torch.randn(*shape, dtype=torch.float64), torch.rand(*shape, dtype=torch.float64) + 0.1)


def test_kl_of_diagonal_normals_equals_that_of_torch_and_is_zero_for_equal_ones() -> None:
    p, q = normal(5, 3), normal(3)
    expected = kl_divergence(
        Independent(Normal(p.loc, p.scale), 1), Independent(Normal(q.loc.expand(5, 3), q.scale), 1)
    )
    torch.testing.assert_close(kl_divergence(p, q), expected)
    torch.testing.assert_close(kl_divergence(p, p), torch.zeros(5, dtype=torch.float64))


def test_kl_to_the_standard_normal_is_the_formula_of_kingma_and_welling() -> None:
    p = normal(4, 6)
    standard = StandardNormal(torch.zeros(6).double())
    expected = -0.5 * (1 + p.scale.square().log() - p.loc.square() - p.scale.square()).sum(-1)
    torch.testing.assert_close(kl_divergence(p, standard), expected)
    plain = DiagonalNormal(standard.loc, standard.scale)
    torch.testing.assert_close(kl_divergence(p, plain), expected)
    torch.testing.assert_close(kl_divergence(DiagonalNormal(p.loc, p.scale, p.scale.log()), standard), expected)


def test_expanded_diagonal_normal_has_the_same_class() -> None:
    q = normal(3).expand((7, 5))
    assert isinstance(q, DiagonalNormal) and q.batch_shape == (7, 5) and q.event_shape == (3,)


def test_point_mass_has_samples_and_no_density() -> None:
    delta = Delta(torch.randn(4, 2, requires_grad=True))
    assert delta.rsample((3,)).shape == (3, 4, 2) and delta.rsample().requires_grad
    torch.testing.assert_close(delta.mean, delta.sample((2,))[1])
    assert not delta.variance.any()
    with pytest.raises(NotImplementedError, match="no log q"):
        delta.log_prob(delta.loc)


def test_temperature_multiplies_the_scale() -> None:
    q = normal(2, 3)
    torch.testing.assert_close(temper(q, 0.5).scale, q.scale / 2)
    torch.testing.assert_close(temper(q, 0.5).mean, q.mean)
    with pytest.raises(NotImplementedError, match="Delta"):
        temper(Delta(torch.zeros(2)), 0.5)


def test_temper_keeps_the_other_parameters_of_a_distribution() -> None:
    student = Independent(StudentT(torch.tensor([5.0, 9.0]), torch.ones(2), torch.full((2,), 3.0)), 1)
    wider = temper(student, 2.0)
    assert isinstance(wider, Independent)
    base = wider.base_dist
    assert base.df.tolist() == [5, 9] and base.loc.tolist() == [1, 1] and base.scale.tolist() == [6, 6]
    gamma = Independent(Gamma(torch.ones(2), torch.ones(2)), 1)  # no scale to multiply
    assert temper(gamma, 1.0) is gamma
    with pytest.raises(NotImplementedError, match="Gamma"):
        temper(gamma, 0.5)


def test_support_of_discretized_pixels_is_their_levels() -> None:
    px = DiscretizedLogistic(torch.zeros(3, 1, 4, 4), torch.ones(1, 1, 1), 256)
    assert px.support.is_discrete and px.expand((2, 3)).batch_shape == (2, 3)
    eight_bits = torch.arange(256).float().reshape(1, 16, 16) / 255
    assert px.support.check(eight_bits)
    for invalid in (eight_bits + 1 / 255, -eight_bits, eight_bits * 0.999, (eight_bits * 255 + 0.5) / 256):
        assert not px.support.check(invalid)
    seventeen = DiscretizedLogistic(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), 17).support
    assert not seventeen.check(eight_bits)
    stored = (torch.arange(17) * 255 / 16).round().reshape(1, 1, 17) / 255  # rounded to 8 bits
    assert seventeen.check(stored) and not seventeen.check(stored + 0.01)
