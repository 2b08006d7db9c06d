"""FID, KID, precision, recall, density and coverage against cases with a known answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.evaluation import FID, KID, PRDC, Classifier
from nelbo.evaluation.extractors import Extraction, Extractor
from nelbo.evaluation.feature_distances import frechet_distance, kernel_distance
from nelbo.evaluation.generated import generate
from nelbo.evaluation.measure import Findings, NotApplicable, Subject
from nelbo.evaluation.prdc import prdc
from nelbo.evaluation.processes import Processes
from tests.helpers.factors import make_vae
from tests.helpers.gallery import Gallery, digit_images
from tests.helpers.subjects import make_subject

TRAIN, TRAIN_LABELS, TEST, LABELS = digit_images()
DATA = {"data": "digits", "protocol": "raw", "data_sha256": "0" * 64}


class Flat(Extractor):
    """Pixels as features."""

    identity = "flat"

    def prepare(self, subject: Subject) -> Extraction:
        return Extraction(lambda x: x.flatten(1), {"extractor": "flat", "extractor_sha256": ""})


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tensor], Subject]:
    """`show(images)` returns a subject with the digits as data and a model that generates the given images."""
    cache = tmp_path_factory.mktemp("cache")

    def subject(images: Tensor) -> Subject:
        return make_subject(
            Gallery(images), TEST, TRAIN, labels=LABELS, train_labels=TRAIN_LABELS, data=DATA, cache=cache
        )

    return subject


def measure_all(subject: Subject, extractor: Extractor | None = None, count: int = len(TEST)) -> Findings:
    common = {
        "extractor": extractor or Classifier(),
        "num_generated": count,
        "temperature": 1.0,
        "pixels": "sample",
        "limit": None,
    }
    together = Findings()
    for measure in (
        FID(**common),  # type: ignore[arg-type]
        KID(**common, subsets=50, subset_size=100),  # type: ignore[arg-type]
        PRDC(**common, k=5),  # type: ignore[arg-type]
    ):
        findings = measure(subject)
        together.values |= findings.values
        together.recipe |= findings.recipe
        together.warnings += findings.warnings
    return together


def test_copies_of_the_test_set_are_perfect(show: Callable[[Tensor], Subject]) -> None:
    values = measure_all(show(TEST)).values
    assert abs(values["fid"]) < 1e-4  # type: ignore[arg-type]
    assert values["precision"] == values["recall"] == values["coverage"] == 1
    # Each ball contains k + 1 copies, including the copy of its center.
    assert values["density"] == pytest.approx(6 / 5)
    # The estimate is unbiased for independent sets; for sets with common images it is below 0.
    assert -0.1 < values["kid"] < 0  # type: ignore[operator]


def test_better_images_have_better_scores(show: Callable[[Tensor], Subject]) -> None:
    noise = measure_all(show(torch.rand(len(TEST), 1, 8, 8))).values
    noisy = measure_all(show((TEST + 0.3 * torch.randn(len(TEST), 1, 8, 8)).clamp(0, 1))).values
    unseen = measure_all(show(TRAIN[::5])).values
    for key in ("fid", "kid"):
        assert noise[key] > 2 * noisy[key] > 4 * unseen[key]  # type: ignore[operator]
    for key in ("precision", "density", "coverage"):
        assert noise[key] < noisy[key] < unseen[key]  # type: ignore[operator]
    assert noise["density"] < 0.2 and noise["coverage"] < 0.1  # type: ignore[operator]


def test_training_images_score_the_reference(show: Callable[[Tensor], Subject]) -> None:
    """`fid_reference` is the FID of a model that generates as many training images."""
    positions = torch.arange(len(TEST)) * len(TRAIN) // len(TEST)
    values = measure_all(show(TRAIN[positions])).values
    assert values["fid"] == pytest.approx(values["fid_reference"], rel=1e-6)
    assert values["fid_reference"] > 0.1  # type: ignore[operator]
    assert values["fid_reference_images"] == len(TEST)


def test_fid_reference_uses_as_many_training_images_as_were_generated() -> None:
    """A perfect model scores the reference for any number of images: here 64 features, N=360, M=10,000.

    For N and M images of one Gaussian both are about F^2 / 4 (1 / N + 1 / M) = 2.9, plus 0.2 from the means.
    """

    def images(count: int) -> Tensor:
        return (torch.randn(count, 1, 8, 8) / 12 + 0.5).clamp(0, 1)

    def fid(train: int) -> Findings:
        subject = make_subject(Gallery(images(10_000)), images(360), images(train))
        measure = FID(extractor=Flat(), num_generated=10_000, temperature=1.0, pixels="mean", limit=None)
        return measure(subject)

    enough = fid(12_000)
    assert enough.values["fid_reference_images"] == 10_000 and not enough.warnings
    assert enough.values["fid"] == pytest.approx(enough.values["fid_reference"], rel=0.1)
    few = fid(360)  # as many as in the split: twice the bias, and a warning
    assert few.values["fid_reference"] > 1.5 * few.values["fid"]  # type: ignore[operator]
    (warning,) = few.warnings
    assert "fid_reference is of all 360 training images" in warning and "num_generated=360 makes" in warning


def test_missing_classes_lower_recall_and_coverage_but_not_precision(show: Callable[[Tensor], Subject]) -> None:
    whole, half = (measure_all(show(images[::2])).values for images in (TRAIN, TRAIN[TRAIN_LABELS < 5]))
    assert half["precision"] > whole["precision"] - 0.05  # type: ignore[operator]
    for key in ("recall", "coverage"):
        assert half[key] < 0.65 * whole[key]  # type: ignore[operator]


def test_values_include_the_settings(show: Callable[[Tensor], Subject]) -> None:
    findings = measure_all(show(TEST))
    for name in ("fid", "kid", "prdc"):
        recipe = {key: findings.recipe[f"{name}_{key}"] for key in ("extractor", "generated", "images", "temperature")}
        assert recipe == {"extractor": "classifier", "generated": 297, "images": 297, "temperature": 1.0}
        assert findings.recipe[f"{name}_pixels"] == "sample"
        assert len(str(findings.recipe[f"{name}_extractor_sha256"])) == 64
        assert findings.values[f"{name}_extractor_accuracy"] > 0.9  # type: ignore[operator]
        assert f"{name}_extractor_accuracy" not in findings.recipe
    assert findings.recipe.items() <= findings.values.items()
    assert (findings.recipe["kid_subset_size"], findings.recipe["prdc_k"]) == (100, 5)


def test_features_are_computed_once_for_all_measures(show: Callable[[Tensor], Subject]) -> None:
    tasks: list[str] = []
    subject = replace(show(TEST), watch=lambda task, done, total: tasks.append(task) if done == total else None)
    measure_all(subject)
    expected = ["features of samples", "features of test", "features of train"]
    assert sorted(task for task in tasks if task.startswith("features")) == expected
    measure_all(replace(subject))  # another subject does not share the features
    assert len([task for task in tasks if task.startswith("features")]) == 2 * len(expected)


def test_frechet_distance_of_gaussians() -> None:
    """|mu|^2 + tr(C + C' - 2 (C^(1/2) C' C^(1/2))^(1/2)) is exact for points with exactly these moments."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 4000, 3, generator=generator, dtype=torch.float64)
    first, second = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 0.5]).double()

    def white(x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), (x - x.mean(dim=0)).T, upper=False).T

    def root(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T

    real, generated = white(points[0]) @ first.T, white(points[1]) @ second.T + shift
    one, two = first @ first.T, second @ second.T
    exact = shift.square().sum() + (one + two - 2 * root(root(one) @ two @ root(one))).trace()
    assert frechet_distance(real, generated) == pytest.approx(exact.item(), rel=1e-9)
    assert abs(frechet_distance(real, real)) < 1e-9
    # Covariances are singular if there are more features than images.
    few = torch.randn(20, 64, generator=generator)
    assert abs(frechet_distance(few, few)) < 1e-4
    assert frechet_distance(few, few + 0.5) == pytest.approx(64 * 0.25, abs=1e-4)


def test_frechet_distance_does_not_depend_on_how_far_features_are_from_zero() -> None:
    real, generated = torch.randn(300, 5).double(), 0.3 + 1.5 * torch.randn(400, 5).double()
    near = frechet_distance(real, generated)
    assert frechet_distance(real + 1e6, generated + 1e6) == pytest.approx(near, rel=1e-7)


def test_kernel_distance_is_unbiased() -> None:
    """Its expectation is 0 for two sets of one distribution, and the exact value for two different ones."""
    generator = torch.Generator().manual_seed(0)
    estimates = torch.tensor(
        [kernel_distance(*torch.randn(2, 60, 4, generator=generator), subsets=1, subset_size=60)[0] for _ in range(400)]
    )
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean()) < 3 * error and error < 0.01
    # One feature, k(x, y) = (x y + 1)^3: MMD^2 = sum over j of binom(3, j) (E x^j - E y^j)^2.
    normal, shifted = torch.randn(2, 20_000, generator=generator)
    shifted = shifted + 1
    exact = 3 * (0 - 1) ** 2 + 3 * (1 - 2) ** 2 + (0 - 4) ** 2
    mean, deviation = kernel_distance(normal[:, None], shifted[:, None], subsets=50, subset_size=1000)
    assert abs(mean - exact) < 4 * deviation / math.sqrt(20) and deviation > 0


def test_prdc_by_hand() -> None:
    """On a line, k = 1. Real balls: 0 +- 1, 1 +- 1, 3 +- 2, 10 +- 7. Generated: 1.5 +- 2.5, 4 +- 2.5, 30 +- 26."""
    real = torch.tensor([[0.0], [1.0], [3.0], [10.0]])
    generated = torch.tensor([[1.5], [4.0], [30.0]])
    overlap = prdc(real, generated, 1)
    assert overlap.precision == pytest.approx(2 / 3)  # not 30
    assert overlap.recall == 1  # 0, 1 and 3 near 1.5; 10 is 20 from 30
    assert overlap.density == pytest.approx((2 + 2 + 0) / 3)  # 1.5 in those of 1 and 3; 4 in those of 3 and 10
    assert overlap.coverage == 3 / 4  # not 0
    swapped = prdc(generated, real, 1)
    assert (swapped.precision, swapped.recall) == (overlap.recall, overlap.precision)
    # The first ball is closed: 2 is the neighbour that it reaches to.
    assert prdc(torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [9.0]]), 1).precision == 0.5


def test_prdc_far_from_the_origin_and_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = torch.randn(2, 200, 5).double()
    near = prdc(real, generated, 5)
    monkeypatch.setattr("nelbo.evaluation.prdc.ELEMENTS", 700)
    assert prdc(real + 1000, generated + 1000, 5) == near
    assert prdc(real, real, 5) == (1, 1, 6 / 5, 1)


def test_density_is_one_for_equal_distributions() -> None:
    densities = torch.tensor([prdc(*torch.randn(2, 300, 4), 5).density for _ in range(40)])
    assert abs(densities.mean() - 1) < 4 * densities.std() / math.sqrt(40) < 0.1


def test_sets_that_are_too_small_are_an_error(show: Callable[[Tensor], Subject]) -> None:
    images = torch.rand(6, 1, 8, 8)
    subject = make_subject(Gallery(images), images)
    common = {"extractor": Flat(), "temperature": 1.0, "pixels": "mean", "limit": 3}
    with pytest.raises(NotApplicable, match="fid needs at least two generated images"):
        FID(**common, num_generated=1)(subject)  # type: ignore[arg-type]
    with pytest.raises(NotApplicable, match="kid needs .* four generated images"):
        KID(**common, num_generated=4, subsets=2, subset_size=2)(subject)  # type: ignore[arg-type]
    with pytest.raises(NotApplicable, match="k=5 needs more than 5 generated images and 5 of the split, not 3"):
        PRDC(**common, num_generated=4, k=5)(subject)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k=3 needs more than 3 points in each set, and there are 6 and 3"):
        prdc(images.flatten(1), images[:3].flatten(1), 3)
    assert "3 images are too few" in FID(**common, num_generated=4)(subject).warnings[0]  # type: ignore[arg-type]


def test_the_training_split_has_no_reference() -> None:
    images = torch.rand(300, 1, 8, 8)
    findings = measure_all(replace(make_subject(Gallery(images), images), split="train"), Flat())
    assert "fid_reference" not in findings.values and "fid_reference is not reported" in findings.warnings[-1]


def test_invalid_options() -> None:
    good = {"extractor": Flat(), "num_generated": 4, "temperature": 1.0, "pixels": "mean", "limit": None}
    for key, value in {"num_generated": 0, "temperature": 0, "pixels": "median", "limit": -1}.items():
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            FID(**{**good, key: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="subsets=0"):
        KID(**good, subsets=0, subset_size=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="k=0"):
        PRDC(**good, k=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", ["sample", "mean"])
def test_processes_share_the_generated_images(pixels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = make_subject(make_vae(likelihood="bernoulli"), torch.rand(3, 1, 6, 5), batch_size=4)
    state = torch.get_rng_state()

    def make(subject: Subject) -> Tensor:
        return generate(subject, "", 18, lambda x: x, temperature=1.0, pixels=pixels)

    alone = make(subject)
    assert torch.equal(torch.get_rng_state(), state)
    assert alone.shape == (18, 1, 6, 5) and len(alone.flatten(1).unique(dim=0)) > 12
    assert bool(((alone == 0) | (alone == 1)).all()) == (pixels == "sample")
    shares: list[list[Tensor]] = []
    monkeypatch.setattr(Processes, "join", lambda self, mine, total: shares.append(mine) or mine)
    for rank in range(2):
        make(replace(subject, processes=Processes(rank, 2)))
    together = [shares[number % 2][number // 2] for number in range(5)]
    assert torch.equal(torch.cat(together), alone)


def test_generated_pixels_are_clamped(tmp_path: Path) -> None:
    subject = make_subject(make_vae(likelihood="gaussian"), torch.rand(3, 1, 6, 5))
    x = generate(subject, "", 50, lambda x: x, temperature=1.0, pixels="sample")
    assert x.min() == 0 and x.max() == 1
