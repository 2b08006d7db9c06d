"""Copies of training images are recognised, and other images are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.evaluation import Neighbours
from nelbo.evaluation.measure import Findings, NotApplicable, Subject
from nelbo.evaluation.neighbours import nearest
from nelbo.evaluation.processes import Processes
from tests.helpers.gallery import Gallery, digit_images
from tests.helpers.subjects import make_subject

TRAIN, _, TEST, _ = digit_images()


def measure(images: Tensor, test: Tensor = TEST, train: Tensor = TRAIN) -> Findings:
    neighbours = Neighbours(num_generated=len(images), temperature=1.0, pixels="sample", limit=None)
    return neighbours(make_subject(Gallery(images), test, train))


def test_training_images_are_copies() -> None:
    values = measure(TRAIN[:100]).values
    assert (values["neighbour_distance_ratio"], values["copies"]) == (0, 1)


def test_some_copies_are_counted() -> None:
    values = measure(torch.cat([TRAIN[:30], torch.rand(70, 1, 8, 8)])).values
    assert values["copies"] == pytest.approx(0.3)


def test_copies_with_a_little_noise_are_copies() -> None:
    values = measure((TRAIN[:100] + 0.01 * torch.randn(100, 1, 8, 8)).clamp(0, 1)).values
    assert values["neighbour_distance_ratio"] < 0.1 and values["copies"] == 1  # type: ignore[operator]


def test_unseen_images_are_not_copies() -> None:
    values = measure(TEST).values
    assert values["neighbour_distance_ratio"] == 1
    assert values["copies"] == pytest.approx(0.01, abs=1 / len(TEST))  # the images that define the quantile
    # Two halves of the training images have the same distribution; that of the test set is slightly different.
    values = measure(TRAIN[::2], TRAIN[1::4], TRAIN[3::4]).values
    assert values["neighbour_distance_ratio"] == pytest.approx(1, abs=0.05)
    assert values["copies"] < 0.04  # type: ignore[operator]


def test_the_picture_shows_samples_and_their_neighbours() -> None:
    flipped = TRAIN[:12].flip(-1)
    picture = measure(flipped).pictures["neighbours"]
    cell, gap = 56, 2
    assert picture.shape == (1, gap + 10 * (cell + gap), gap + 6 * (cell + gap))
    distances = torch.cdist(flipped.flatten(1).double(), TRAIN.flatten(1).double())
    for row in (0, 9):
        top = gap + row * (cell + gap)
        shown = picture[0, top : top + cell, gap:].unflatten(1, (6, cell + gap))[::7, :, :cell:7].transpose(0, 1)
        expected = torch.cat([flipped[row], TRAIN[distances[row].topk(5, largest=False).indices, 0]])
        assert torch.equal(shown, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_neighbours_are_those_of_all_training_images(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of processes that share them; and small distances are exact."""
    monkeypatch.setattr("nelbo.evaluation.neighbours.BLOCK", 128)
    queries = torch.cat([TEST[:20], TRAIN[40:44]]).flatten(1)
    exact, where = torch.cdist(queries.double(), TRAIN.flatten(1).double()).topk(5, largest=False)
    parts: list[list[list[Tensor]]] = []
    monkeypatch.setattr(Processes, "join", lambda self, mine, total: parts[-1].append(mine) or mine)
    subject = make_subject(Gallery(TEST), TEST, TRAIN)
    for rank in range(count):
        parts.append([])
        nearest(replace(subject, processes=Processes(rank, count)), queries, 5)
    calls = iter((0, 1))

    def join(self: Processes, mine: list[Tensor], total: int) -> list[Tensor]:
        call = next(calls)
        assert total == count
        return [part[call][0] for part in parts]

    monkeypatch.setattr(Processes, "join", join)
    distances, positions = nearest(replace(subject, processes=Processes(0, count)), queries, 5)
    assert torch.equal(positions, where)
    torch.testing.assert_close(distances, exact, atol=1e-6, rtol=0)
    assert (distances[20:, 0] == 0).all()


def test_splits_for_which_neighbours_are_not_defined() -> None:
    subject: Subject = make_subject(Gallery(TEST), TEST, TRAIN)
    neighbours = Neighbours(num_generated=5, temperature=1.0, pixels="sample", limit=None)
    with pytest.raises(NotApplicable, match="use split=test or val"):
        neighbours(replace(subject, split="train"))
    with pytest.raises(NotApplicable, match="training images themselves"):
        neighbours(make_subject(Gallery(TEST), TRAIN, TRAIN))
    with pytest.raises(ConfigError, match="pixels=median"):
        Neighbours(num_generated=5, temperature=1.0, pixels="median", limit=None)
