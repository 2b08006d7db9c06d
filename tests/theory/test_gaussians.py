"""Composing and conditioning linear Gaussians."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from nelbo.errors import ConfigError
from nelbo.theory.gaussians import LinearGaussian, compose, factorize, independent, select, standard_normal
from tests.helpers.hierarchies import conditional, normal


def test_log_prob_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    part = conditional(3, 2, generator)
    given, value = normal(5, 2, generator=generator), normal(5, 3, generator=generator)
    expected = MultivariateNormal(given @ part.matrix.T + part.offset, part.covariance).log_prob(value)
    torch.testing.assert_close(part.log_prob(value, given), expected)


def test_a_joint_distribution_is_the_product_of_its_factors() -> None:
    """Densities at points, in both directions: composed, and factorised in another order."""
    generator = torch.Generator().manual_seed(1)
    parts = [conditional(2, 3, generator), conditional(1, 5, generator), conditional(3, 6, generator)]
    given, value = normal(7, 3, generator=generator), normal(7, 6, generator=generator)
    product = torch.zeros(7, dtype=torch.float64)
    for part, end in zip(parts, (2, 3, 6), strict=True):
        own = value[:, end - part.size : end]
        product += part.log_prob(own, torch.cat([given, value[:, : end - part.size]], dim=1))
    joint = compose(parts)
    torch.testing.assert_close(joint.log_prob(value, given), product)
    for found, part in zip(factorize(joint, [2, 1, 3]), parts, strict=True):
        for name in ("matrix", "offset", "covariance"):
            torch.testing.assert_close(getattr(found, name), getattr(part, name))
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    other = compose(factorize(select(joint, order), [1, 4, 1]))
    torch.testing.assert_close(other.log_prob(value[:, order], given), product)


def test_samples_have_the_mean_and_the_covariance() -> None:
    part = conditional(2, 1, torch.Generator().manual_seed(2))
    samples = part.sample(torch.full((400_000, 1), 0.7, dtype=torch.float64), torch.Generator().manual_seed(3))
    torch.testing.assert_close(samples.mean(0), part.mean(torch.tensor([0.7]).double()), atol=0.01, rtol=0)
    torch.testing.assert_close(samples.T.cov(), part.covariance, atol=0.02, rtol=0)


ONE = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("matrix", "offset", "covariance", "key"),
    [
        (torch.ones(2, 1).double(), ONE, torch.eye(1).double(), "matrix"),
        (torch.ones(1).double(), ONE, torch.eye(1).double(), "matrix"),
        (torch.ones(1, 1).double(), torch.ones(1, 1).double(), torch.eye(1).double(), "offset"),
        (torch.ones(1, 1).double(), ONE, torch.ones(1).double(), "covariance"),
        (torch.ones(1, 1).double(), ONE, torch.eye(1), "covariance"),
        (torch.ones(1, 1).double(), ONE, -torch.eye(1).double(), "covariance"),
        (torch.ones(2, 1).double(), ONE.expand(2), torch.tensor([[1.0, 0.0], [0.5, 1.0]]).double(), "covariance"),
    ],
)
def test_what_is_no_distribution_is_refused(
    matrix: torch.Tensor, offset: torch.Tensor, covariance: torch.Tensor, key: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        LinearGaussian(matrix, offset, covariance)
    assert refused.value.key == key


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="must have 2 columns"):
        compose([standard_normal(2), independent(torch.ones(1, 3).double(), ONE, ONE)])
