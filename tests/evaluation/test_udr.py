"""UDR of models whose codes are known functions of each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.evaluation import UDR
from nelbo.evaluation.measure import NotApplicable, Subject
from nelbo.evaluation.udr import agreement, rank_correlation
from nelbo.models import VAE
from tests.helpers.codes import as_images, coded
from tests.helpers.factors import images, make_vae
from tests.helpers.subjects import make_subject

GRID = torch.cartesian_prod(*[torch.linspace(-1.5, 1.5, steps) for steps in (9, 8, 7)])
"""All combinations of values, so the rank correlation of two columns is exactly 0."""


def subject(model: VAE, values: Tensor = GRID) -> Subject:
    return make_subject(model, as_images(values), data={"data_sha256": "a" * 64, "protocol": "raw"})


def udr(*models: VAE, values: Tensor = GRID) -> list[float]:
    return [float(run.values["udr"]) for run in UDR(limit=None)([subject(model, values) for model in models])]


def rotated(x: Tensor) -> Tensor:
    """Rotate the first two units by 45 degrees."""
    first, second, third = x.unbind(dim=1)
    return torch.stack([(first + second) / math.sqrt(2), (first - second) / math.sqrt(2), third], dim=1)


PLAIN = coded(3, lambda x: x)


def test_order_sign_and_monotone_maps_do_not_matter() -> None:
    permuted = coded(3, lambda x: x[:, [2, 0, 1]])
    flipped = coded(3, lambda x: x * torch.tensor([1.0, -1.0, -0.3]))
    bent = coded(3, lambda x: torch.stack([x[:, 1].exp(), -(x[:, 0] ** 3), torch.atan(5 * x[:, 2])], dim=1))
    assert udr(PLAIN, permuted, flipped, bent) == pytest.approx([1, 1, 1, 1], abs=1e-9)


def test_units_without_information_are_ignored() -> None:
    """Their KL is 0, for a mean of 0 and a scale of 1, or small, for a mean with little noise."""
    scale = torch.tensor([0.1, 1.0, 0.1, 1.0, 0.1])
    padded = coded(5, lambda x: torch.stack([x[:, 0], 0 * x[:, 0], x[:, 1], 0.01 * x[:, 2], x[:, 2]], dim=1), scale)
    first, second = UDR(limit=None)([subject(PLAIN), subject(padded)])
    assert first.values["udr"] == second.values["udr"] == pytest.approx(1, abs=1e-9)
    assert first.values["udr_informative_units"] == second.values["udr_informative_units"] == 3


def test_a_unit_is_informative_above_a_hundredth_of_a_nat() -> None:
    """With a mean of 0 the KL is 0.043 nats for a scale of 0.8, and 0.0026 nats for a scale of 0.95."""
    model = coded(3, lambda x: x * torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.1, 0.8, 0.95]))
    for result in UDR(limit=None)([subject(model), subject(PLAIN)])[:1]:
        assert result.values["udr_informative_units"] == 2


def test_a_unit_of_only_one_run_lowers_both_scores() -> None:
    """R is a 3 x 2 matrix with a row of zeros: 4 of the 5 terms are 1."""
    assert udr(PLAIN, coded(2, lambda x: x[:, :2])) == pytest.approx([0.8, 0.8], abs=1e-9)


def test_unrelated_codes_score_low() -> None:
    """For N = 2000 images |rho| is about 0.02, and so is each term of the score, the square over a sum of three."""
    both = torch.randn(2000, 6)
    assert max(udr(coded(3, lambda x: x[:, :3]), coded(3, lambda x: x[:, 3:]), values=both)) < 0.05


def test_rotated_codes_score_less_than_permuted_ones() -> None:
    """Two of three units in each run have R = (rho, rho), with a term of rho / 2; the term of the third is 1."""
    rho = spearmanr(GRID[:, 0], rotated(GRID)[:, 0]).statistic
    other = spearmanr(GRID[:, 1], rotated(GRID)[:, 1]).statistic
    assert 0.6 < rho < 0.8 and abs(other) == pytest.approx(rho, abs=0.05)
    assert udr(PLAIN, coded(3, rotated)) == pytest.approx([(rho + 1) / 3] * 2, abs=0.02)


def test_each_run_gets_the_median_over_the_others_in_order() -> None:
    permuted, odd = coded(3, lambda x: x[:, [1, 2, 0]]), coded(3, rotated)
    low = udr(PLAIN, odd)[0]
    assert low < 0.8
    assert udr(PLAIN, odd, permuted, PLAIN) == pytest.approx([1, low, 1, 1], abs=1e-9)
    assert udr(PLAIN, odd, permuted) == pytest.approx([(1 + low) / 2, low, (1 + low) / 2], abs=1e-9)


def test_agreement_by_hand() -> None:
    assert agreement(np.array([[0.7, 0.7], [0.7, 0.7]])) == pytest.approx(0.35)
    # Columns: 0.64 / 1 + 0.36 / 0.7; rows: 0.64 / 0.9 + 0.36 / 0.8.
    table = np.array([[0.8, 0.1], [0.2, 0.6]])
    assert agreement(table) == pytest.approx((0.64 + 0.36 / 0.7 + 0.64 / 0.9 + 0.36 / 0.8) / 4)
    assert agreement(table) == agreement(table.T) == pytest.approx(agreement(table[::-1]))
    assert agreement(np.zeros((2, 3))) == agreement(np.zeros((0, 3))) == 0


def test_rank_correlation_is_spearmans_with_ties_and_constants() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(50, 2)).round(0), rng.normal(size=(50, 3))
    exact = np.abs(spearmanr(first, second).statistic[:2, 2:])
    assert rank_correlation(first, second) == pytest.approx(exact, abs=1e-12)
    assert (rank_correlation(np.ones((50, 1)), second) == 0).all()


def test_collapsed_runs_score_0_with_a_warning() -> None:
    collapsed = coded(2, lambda x: 0 * x[:, :2], scale=1.0)
    first, second = UDR(limit=None)([subject(PLAIN), subject(collapsed)])
    assert first.values["udr"] == second.values["udr"] == 0 == second.values["udr_informative_units"]
    assert not first.warnings and "no unit is informative" in second.warnings[0]


def test_the_recipe_and_the_limit() -> None:
    for run in UDR(limit=100)([subject(PLAIN), subject(PLAIN)]):
        assert run.recipe == {"udr_runs": 2, "udr_images": 100}
    with pytest.raises(ConfigError, match="limit=0"):
        UDR(limit=0)


def test_runs_that_cannot_be_compared() -> None:
    one = subject(PLAIN)
    with pytest.raises(NotApplicable, match="only one is given"):
        UDR(limit=None)([one])
    for key in ("data_sha256", "protocol", "split_seed"):
        with pytest.raises(NotApplicable, match=f"differ in {key}.*subject.*other b"):
            UDR(limit=None)([one, replace(one, name="other", data={**one.data, key: "b"})])
    with pytest.raises(NotApplicable, match="different images"):
        UDR(limit=None)([one, subject(PLAIN, GRID[:9])])
    for posterior, prior in (
        ("deterministic", "standard_normal"),
        ("full_normal", "standard_normal"),
        ("flow_spline", "standard_normal"),
        ("diagonal_normal", "mixture"),
    ):
        model = make_subject(make_vae(posterior=posterior, prior=prior), images())
        with pytest.raises(NotApplicable, match="no KL per unit"):
            UDR(limit=None)([model, model])
