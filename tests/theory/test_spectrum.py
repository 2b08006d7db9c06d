"""The spectrum of training images, streamed, and how much of it is more than sampling noise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nelbo.evaluation import Collapse
from nelbo.evaluation.linear_theory import linear_theory
from nelbo.evaluation.measure import NoMeaning, Subject
from nelbo.evaluation.processes import Processes
from nelbo.evaluation.spectrum import covariance, principal_directions, spectrum, units_worth_it
from tests.helpers.factors import images, make_vae
from tests.helpers.gallery import digit_images
from tests.helpers.subjects import TensorSplit, make_subject

NOISE = 0.01
"""Variance of each pixel beside the components."""


def with_components(pixels: int, train: int, held_out: int, variances: Tensor) -> Subject:
    """Images of a few Gaussian components, in units of the noise that every pixel has."""
    vectors = torch.linalg.qr(torch.randn(pixels, len(variances))).Q

    def draw(count: int) -> TensorSplit:
        codes = torch.randn(count, len(variances)) * variances.sqrt()
        x = 0.5 + NOISE**0.5 * (codes @ vectors.T + torch.randn(count, pixels))
        return TensorSplit(x.reshape(count, 1, 1, pixels), torch.full((count,), -1))

    return of_splits(draw(train), draw(held_out))


def of_splits(train: TensorSplit, held_out: TensorSplit) -> Subject:
    model: Any = SimpleNamespace(shape=tuple(train.images.shape[1:]))
    return Subject("subject", model, {"train": train, "val": held_out, "test": held_out})


def test_sampling_noise_of_more_pixels_than_images_is_not_counted_as_units() -> None:
    """Ten components, 3,000 pixels, 2,000 images: at twice the noise 614 eigenvalues of the sample are above."""
    model = make_vae("linear", likelihood="gaussian_fixed", shape=(1, 1, 3000), latent_dim=64)
    splits = with_components(3000, 2000, 500, torch.linspace(40, 10, 10)).splits
    with torch.no_grad():
        level = model.decode(torch.zeros(1, 64)).variance.mean().item()
    subject = Subject("subject", model.eval(), splits, config={"objective": {"beta": 2 * NOISE / level}})
    findings = Collapse(limit=100, kl_threshold=0.01)(subject)
    assert findings.values["collapse_water_level"] == pytest.approx(2 * NOISE)
    assert findings.values["collapse_predicted_units"] == 10
    assert any("64 units have an eigenvalue" in line and "only 10 of them" in line for line in findings.warnings)
    found = spectrum(subject, 64)
    assert int((found.values > 2 * NOISE).sum()) == len(found.values) == 138 and not found.is_whole
    assert [units_worth_it(found, factor * NOISE) for factor in (0.95, 1, 4)] == [10] * 3


def test_noise_at_the_water_level_is_not_counted_where_images_are_many() -> None:
    """A learned sigma lies there: half of 400 directions are above by chance, and images held out contradict them."""
    subject = with_components(400, 5000, 1000, torch.linspace(40, 10, 10))
    found = spectrum(subject, 64)
    assert int((found.values > NOISE).sum()) > 150 and found.is_whole
    assert [units_worth_it(found, factor * NOISE) for factor in (0.95, 1, 1.1)] == [10] * 3


def test_digits_keep_every_unit_of_the_optimum_on_the_training_images() -> None:
    """At the levels of docs/linear.md, 1,300 images of 64 pixels, 200 held out at random."""
    train, labels, _, _ = digit_images()
    order = torch.randperm(len(train))
    splits = (TensorSplit(train[chosen], labels[chosen]) for chosen in (order[200:], order[:200]))
    found = spectrum(of_splits(*splits), 32)
    levels = [beta * 0.225**2 for beta in (0.37, 1, 2.5, 6.5, 9)]
    assert [units_worth_it(found, level) for level in levels] == [30, 18, 10, 4, 3]


@pytest.mark.parametrize("train", [40, 2500])
def test_directions_are_those_of_all_training_images(train: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed in blocks, exactly; approximated, the leading ones, and never above the exact ones."""
    subject = with_components(50, train, 10, torch.tensor([300.0, 100.0, 30.0]))
    x = subject.splits["train"][torch.arange(train)].flatten(1).double()
    centred = x - x.mean(dim=0)
    exact = torch.linalg.eigvalsh(centred.T @ centred / train).flip(0).clamp(min=0)
    mean, values, vectors = principal_directions(subject, 12, "")
    torch.testing.assert_close(mean, x.mean(dim=0))
    torch.testing.assert_close(values, exact)
    torch.testing.assert_close((centred @ vectors).square().mean(dim=0), exact)
    monkeypatch.setattr("nelbo.evaluation.spectrum.MOST_PIXELS", 10)
    _, few, vectors = principal_directions(subject, 12, "")
    assert few.shape == (12,) and vectors.shape == (50, 12) and bool((few <= exact[:12] * (1 + 1e-9)).all())
    torch.testing.assert_close(few[:3], exact[:3], rtol=1e-6, atol=0)


def test_processes_share_the_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = with_components(6, 2500, 10, torch.tensor([3.0]))
    alone = covariance(subject, None, "")
    shares: list[Tensor] = []
    monkeypatch.setattr(Processes, "join", lambda self, mine, total: shares.append(mine[0]) or mine)
    for rank in range(2):
        covariance(of_rank(subject, rank), None, "")
    shift, product = (sum(shares[start::2]) / 2500 for start in (0, 1))
    torch.testing.assert_close(product - torch.outer(shift, shift), alone[1])


def of_rank(subject: Subject, rank: int) -> Subject:
    return Subject("subject", subject.model, subject.splits, processes=Processes(rank, 2))


def test_too_few_images_for_a_spectrum_have_no_theory() -> None:
    subject = make_subject(make_vae(), images(count=49), config={"objective": {"beta": 1}})
    with (
        pytest.raises(NoMeaning, match="it takes 50 training images, and as many held out, and there are 49"),
        torch.no_grad(),
    ):
        linear_theory(subject)
