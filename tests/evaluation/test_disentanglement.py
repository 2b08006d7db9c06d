"""Disentanglement scores of codes whose score is known.

Shapes: N images, D latent dimensions, F factors.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.evaluation import Disentanglement
from nelbo.evaluation.codes import Floats, Integers
from nelbo.evaluation.information_scores import (
    binned,
    entropies,
    leads,
    modularity,
    mutual_information_gaps,
    shared_information,
)
from nelbo.evaluation.measure import Findings, NotApplicable, Subject
from nelbo.evaluation.predictive_scores import DCI, dci, random_halves, separated_attribute_predictability
from nelbo.evaluation.sampled_scores import Groups, beta_vae_score, factor_vae_score
from tests.helpers.codes import as_images, coded
from tests.helpers.factors import images, make_vae
from tests.helpers.subjects import make_subject

LEVELS = (5, 4, 3)
FACTORS: Integers = np.stack(np.meshgrid(*[np.arange(count) for count in LEVELS]), axis=-1).reshape(-1, 3).repeat(30, 0)
"""All combinations, 30 times each, (1800, 3)."""

BEST_SAP = float(np.mean([1 - 1 / count for count in LEVELS]))


def scores(codes: Floats, factors: Integers = FACTORS) -> dict[str, float]:
    rng = np.random.default_rng(0)
    information = shared_information(binned(codes, 20), factors)
    halves = random_halves(len(codes), rng)
    predicted = dci(codes, factors, halves, seed=0)
    beta_vae, messages = beta_vae_score(codes, factors, 400, 64, rng)
    assert not messages
    return {
        "mig": float(mutual_information_gaps(information, entropies(factors)).mean()),
        "dci_disentanglement": predicted.disentanglement,
        "dci_completeness": predicted.completeness,
        "dci_informativeness": predicted.informativeness,
        "sap": float(separated_attribute_predictability(codes, factors, halves).mean()),
        "modularity": modularity(information),
        "factor_vae_score": factor_vae_score(codes, factors, 400, 64, rng),
        "beta_vae_score": beta_vae,
    }


PERFECT = dict.fromkeys(("mig", "modularity", "factor_vae_score", "beta_vae_score"), 1.0) | {
    "dci_disentanglement": 1.0,
    "dci_completeness": 1.0,
    "dci_informativeness": 1.0,
    "sap": BEST_SAP,
}


@pytest.mark.parametrize("scale", [1.0, 1e-3, -1e3])
def test_codes_that_are_the_factors_have_the_best_scores(scale: float) -> None:
    """In any order, at any scale, with either sign and an offset."""
    codes = scale * FACTORS[:, [2, 0, 1]] * np.array([1.0, -0.1, 7.0]) + 3
    assert scores(codes) == {key: pytest.approx(best, abs=1e-9) for key, best in PERFECT.items()}


def test_codes_without_information_are_at_chance() -> None:
    values = scores(np.random.default_rng(1).normal(size=(len(FACTORS), 4)))
    assert values["mig"] < 0.02 and values["sap"] < 0.04
    assert values["dci_disentanglement"] < 0.1 and values["dci_completeness"] < 0.1
    assert values["dci_informativeness"] == pytest.approx(1 - BEST_SAP, abs=0.05)
    for key in ("factor_vae_score", "beta_vae_score"):  # 400 votes of 3 factors
        assert values[key] == pytest.approx(1 / 3, abs=4 * math.sqrt(2 / 9 / 400))


def test_rotated_codes_are_as_informative_and_less_disentangled() -> None:
    codes = FACTORS / FACTORS.std(axis=0)
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    assert np.abs(rotation).max() < 0.9
    values = scores(codes @ rotation)
    assert values["dci_informativeness"] > 0.97
    assert values["mig"] < 0.3 and values["sap"] < 0.4 * BEST_SAP and values["modularity"] < 0.9
    assert values["dci_disentanglement"] < 0.5 and values["dci_completeness"] < 0.5


def test_a_factor_in_two_units_lowers_completeness_and_its_gap_only() -> None:
    """The factor has no gap, and half of its R in two of four units: 1 - log 2 / log 4."""
    codes = FACTORS[:, [0, 0, 1, 2]] * np.array([1.0, -2.0, 1.0, 1.0])
    information = shared_information(binned(codes, 20), FACTORS)
    assert mutual_information_gaps(information, entropies(FACTORS)) == pytest.approx([0, 1, 1])
    halves = random_halves(len(codes), np.random.default_rng(0))
    assert separated_attribute_predictability(codes, FACTORS, halves) == pytest.approx([0, 0.75, 2 / 3])
    values = scores(codes)
    for key in ("dci_disentanglement", "dci_informativeness", "modularity", "factor_vae_score", "beta_vae_score"):
        assert values[key] == pytest.approx(1)
    assert values["dci_completeness"] == pytest.approx((0.5 + 1 + 1) / 3, abs=0.03)


def test_a_unit_with_two_factors_lowers_disentanglement_and_modularity() -> None:
    """Unit 0 determines factors 0 and 1, unit 1 determines factor 2."""
    codes = np.stack([FACTORS[:, 0] * 4 + FACTORS[:, 1], FACTORS[:, 2]], axis=1).astype(float)
    values = scores(codes)
    assert (values["mig"], values["dci_completeness"]) == pytest.approx((1, 1))
    # rho = (2/3, 1/3), and the entropy of (1/2, 1/2) to base 3
    assert values["dci_disentanglement"] == pytest.approx(1 - 2 / 3 * math.log(2) / math.log(3))
    ratio = (math.log(4) / math.log(5)) ** 2
    assert values["modularity"] == pytest.approx((1 - ratio / 2 + 1) / 2)


def test_information_by_hand() -> None:
    codes = np.array([[0, 7], [0, 7], [0, 7], [1, 7]])
    factors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    skewed = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert entropies(codes) == pytest.approx([skewed, 0])
    assert entropies(factors) == pytest.approx([math.log(2)] * 2)
    # Of the pairs, (0, 0) occurs twice, (0, 1) and (1, 1) once: the joint entropy is 1.5 log 2.
    shared = skewed + math.log(2) - 1.5 * math.log(2)
    assert shared_information(codes, factors) == pytest.approx(np.array([[shared, shared], [0, 0]]))
    assert shared_information(factors, factors) == pytest.approx(math.log(2) * np.eye(2))


def test_bins_are_of_equal_width() -> None:
    codes = np.array([[0.0, 5.0, -3.0], [0.24, 5.0, 0.0], [0.5, 5.0, 1.0], [1.0, 5.0, 1.0]])
    assert binned(codes, 4).T.tolist() == [[0, 0, 2, 3], [0, 0, 0, 0], [0, 3, 3, 3]]
    for count in range(2, 21):
        assert len(np.unique(binned(0.1 * np.arange(count)[:, None] - 0.7, 20))) == count


def test_leads_and_modularity_by_hand() -> None:
    assert leads(np.array([[2.0, 0.5], [1.5, 3.0], [0.0, 1.0]])) == pytest.approx([0.5, 2])
    assert leads(np.array([[2.0, 0.5]])) == pytest.approx([2, 0.5])
    # Units: 1 - (1 + 0) / (4 * 2), 1 - (9 + 9) / (9 * 2), and one without information.
    assert modularity(np.array([[2.0, 1.0, 0.0], [3.0, 3.0, 3.0], [0.0, 0.0, 0.0]])) == pytest.approx((7 / 8 + 0) / 2)
    assert modularity(np.zeros((2, 2))) == 0


def test_dci_by_hand() -> None:
    dci_scores = DCI(np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]]), np.array([0.5, 0.9]))
    assert dci_scores.disentanglement == pytest.approx((1 * 1 + 1 * 0) / 2)
    first = 1 + (2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(3)
    assert dci_scores.completeness == pytest.approx((1.5 * first + 0.5 * 1) / 2)
    assert dci_scores.informativeness == pytest.approx(0.7)
    nothing = DCI(np.zeros((2, 2)), np.zeros(2))
    assert nothing.disentanglement == nothing.completeness == 0
    assert DCI(np.ones((1, 2)), np.ones(2)).completeness == 1


def test_groups_draw_values_evenly_and_examples_that_share_a_value() -> None:
    factor = np.array([3, 1, 1, 9, 3, 3, 1, 1])  # 9 occurs once
    rng = np.random.default_rng(0)
    sets = Groups(factor).sets(3000, 4, rng)
    assert sets.shape == (3000, 4) and (factor[sets] == factor[sets[:, :1]]).all()
    first, second = Groups(factor).pairs(500, 8, rng)
    assert first.shape == (500, 8) and (factor[first] == factor[second]).all() and (first != second).all()
    assert len(np.unique(factor[first[0]])) == 2  # each pair has its own value
    for drawn in (sets[:, 0], first.ravel(), second.ravel()):
        shares = np.bincount(drawn, minlength=8) / len(drawn)
        assert shares == pytest.approx([1 / 6, 1 / 8, 1 / 8, 0, 1 / 6, 1 / 6, 1 / 8, 1 / 8], abs=0.025)
    with pytest.raises(ValueError, match="no two"):
        Groups(np.arange(4))


def subject(codes: Floats, factors: Integers = FACTORS, scale: float = 0.1) -> Subject:
    model = coded(codes.shape[1], lambda x: x, scale)
    return make_subject(model, as_images(torch.from_numpy(codes)), factors=torch.from_numpy(factors), batch_size=512)


def measure(subject: Subject, **settings: Any) -> Findings:
    options = {"limit": None, "num_bins": 20, "num_votes": 200, "examples_per_vote": 32} | settings
    return Disentanglement(**options)(subject)


@pytest.mark.parametrize("scale", [0.1, 0.0])
def test_perfect_codes_beside_a_collapsed_unit_and_a_constant_factor(scale: float) -> None:
    """A scale of 0 is a deterministic autoencoder."""
    noise = 0.01 * np.random.default_rng(0).normal(size=len(FACTORS))
    codes = np.column_stack([FACTORS[:, 1], noise, FACTORS[:, 0], FACTORS[:, 2]]).astype(float)
    factors = np.column_stack([FACTORS[:, 0], np.full(len(FACTORS), 2), FACTORS[:, 1:]])
    findings = measure(subject(codes, factors, scale))
    for key, best in PERFECT.items():
        # By chance the unit of noise shares (20 - 1) (5 - 1) / 2N nats with a factor.
        assert findings.values[key] == pytest.approx(best, abs=0.03), key
    perfect = ("factor_vae_score", "beta_vae_score", "modularity")
    assert {findings.values[key] for key in perfect} == {1}
    assert {key: findings.values[f"disentanglement_{key}"] for key in ("images", "factors", "active_units")} == {
        "images": 1800,
        "factors": 3,
        "active_units": 3,
    }
    assert findings.recipe["disentanglement_bins"] == 20 and findings.recipe["disentanglement_votes"] == 200
    assert findings.warnings == ["disentanglement: factors 1 do not vary and are ignored"]
    picture = findings.pictures["mutual_information"]
    assert picture.shape[0] == 3 and 0 <= picture.min() < picture.max() <= 1


def test_the_same_seed_gives_the_same_scores() -> None:
    codes = FACTORS + np.random.default_rng(0).normal(size=FACTORS.shape)
    first, again = measure(subject(codes)), measure(subject(codes))
    other = measure(replace(subject(codes), seed=1))
    assert first.values == again.values != other.values


def test_more_values_than_bins_give_a_warning() -> None:
    (warning,) = measure(subject(FACTORS.astype(float)), num_bins=4).warnings
    assert "factors 0 have more values" in warning and "num_bins" in warning


def test_data_without_enough_factors_or_active_units_have_no_scores() -> None:
    few = np.column_stack([np.arange(1800), FACTORS[:, :2]])
    codes = FACTORS.astype(float)
    with pytest.raises(NotApplicable, match="no known factors.*dsprites"):
        measure(make_subject(make_vae(), images()))
    with pytest.raises(NotApplicable, match="1 of 2 factors vary"):
        measure(subject(codes, FACTORS[:, :2] * np.array([1, 0])))
    with pytest.raises(NotApplicable, match="share a value of factor 0; raise limit"):
        measure(subject(codes, few))
    with pytest.raises(NotApplicable, match="no unit is active"):
        measure(subject(0.01 * codes))


def test_invalid_options() -> None:
    settings = {"limit": None, "num_bins": 20, "num_votes": 200, "examples_per_vote": 32}
    for key, value in (("limit", 0), ("num_bins", 1), ("num_votes", 99), ("examples_per_vote", 1)):
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            Disentanglement(**{**settings, key: value})  # type: ignore[arg-type]
