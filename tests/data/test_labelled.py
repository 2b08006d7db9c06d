"""Training sets of which only some labels are known: `data.labelled` and `data.labelled_copies`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.data.arrays import Arrays, Examples
from nelbo.data.labels import keep_labels
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError
from tests.helpers.forks import forked

COUNTS = (40, 25, 3)
"""Images of each class."""

TINY = ("model=mlp_vae", "data=digits", "trainer=smoke", "callbacks=none", "logger=none")
SEMI = (*TINY, "conditioning=semi_supervised")


def examples() -> Examples:
    labels = torch.cat([torch.full((count,), number) for number, count in enumerate(COUNTS)])
    return Examples(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)


def counts(kept: Examples) -> list[int]:
    labels = kept.known("label")
    assert labels is not None
    return [int((labels == number).sum()) for number in range(len(COUNTS))]


def test_as_many_labels_of_each_class_as_possible_are_kept() -> None:
    for count, expected in ((3, [1, 1, 1]), (9, [3, 3, 3]), (19, [8, 8, 3]), (68, [40, 25, 3])):
        kept = keep_labels(examples(), count, seed=0)
        assert sum(counts(kept)) == count and (kept.labels >= 0).sum() == count
        assert all(abs(got - wanted) <= 1 for got, wanted in zip(counts(kept), expected, strict=True))
        known = kept.labels >= 0
        assert torch.equal(kept.labels[known], examples().labels[known])  # none was changed
    same, other = (keep_labels(examples(), 9, seed).labels for seed in (0, 1))
    assert torch.equal(same, keep_labels(examples(), 9, 0).labels) and not torch.equal(same, other)
    for count in (2, 69):
        with pytest.raises(ConfigError, match=f"labelled={count}: must be from 3, the number of classes, to 68"):
            keep_labels(examples(), count, 0)
    with pytest.raises(ConfigError, match="labelled=1: no training image has a label"):
        keep_labels(Examples(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.full((2,), -1)), 1, 0)


def test_only_training_labels_are_withheld_and_labelled_images_visited_again() -> None:
    whole = examples()
    images = torch.arange(len(whole), dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    source = Arrays(Examples(images, whole.labels), Examples(images[::3], whole.labels[::3]))
    options = {"name": "own", "source": lambda: source, "batch_size": 10, "validation_size": 20, "levels": 256}
    data = ImageData(labelled=6, labelled_copies=4, **options)
    data.setup()
    train, visited = data.splits["train"], data.visited("train")
    assert len(train) == 48 and len(visited) == 48 + 3 * 6 and data.num_batches(1) == 7
    assert sum(counts(train)) == 6 and sum(counts(data.splits["val"])) == 20 and counts(data.splits["test"])[0] == 14
    assert data.visited("val") is data.splits["val"]
    rows = torch.cat([batch.positions for batch in data.train_dataloader()])
    times = torch.bincount(rows, minlength=len(whole))
    known = train.labels >= 0
    assert (times[known] == 4).all() and sorted(times[~known].tolist()) == [0] * 20 + [1] * 42
    assert data.provenance()["labelled"] == 6 and data.provenance()["train_images"] == 48
    replayed = data.read("train", torch.tensor([65]), epoch=0)  # the last visit, of a labelled image
    assert replayed.labels.tolist() == visited.__getitems__(torch.tensor([65])).labels.tolist() != [-1]
    plain = ImageData(**options)
    plain.setup()
    assert "labelled" not in plain.provenance() and plain.sha256 == data.sha256


def test_a_run_infers_labels_and_can_be_given_them(tmp_path: Path) -> None:
    done = forked("train.py", *SEMI, "data.labelled=20", "data.labelled_copies=3", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 <= metrics["test/accuracy"] <= 1 and metrics["labelled"] == 20 and "accuracy of labels" in done.stdout
    assert metrics["test/kl"] == pytest.approx(metrics["test/kl_level_1"] + metrics["test/kl_level_2"], rel=1e-4)
    model = nelbo.load(tmp_path)
    assert model.classify(torch.rand(5, 1, 8, 8)).shape == (5, 10)
    assert model.at(label=3).generate(4).mean.shape == (4, 1, 8, 8)
    out = tmp_path / "classes.png"
    drawn = forked("scripts/draw.py", f"run={tmp_path}", "picture=every_class", f"out={out}")
    assert drawn.returncode == 0 and out.exists(), drawn.stderr
    measured = forked(
        "scripts/evaluate.py", f"run={tmp_path}", "metrics=[accuracy,nll]", "metrics.nll.num_samples=20", "limit=40"
    )
    assert measured.returncode == 0, measured.stderr
    values = json.loads((tmp_path / "evaluation.json").read_text())
    assert values["test/accuracy_images"] == 40 and 0 <= values["test/accuracy"] <= 1
    for more, reason in (
        ("at.label=3", "accuracy: the label is given"),
        ("metrics=[fid]", "data.labelled=20 keeps few"),
    ):
        refused = forked("scripts/evaluate.py", f"run={tmp_path}", "metrics=[accuracy]", more, "limit=40")
        assert reason in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data.labelled=0",), "data.labelled=0: must be"),
        (("data.labelled=5",), "data.labelled=5: must be from 10, the number of classes, to 1300"),
        (("data.labelled_copies=0",), "data.labelled_copies=0: must be"),
        (("objective=iwae",), "objective=iwae: does not sum over the classes of a label"),
        (("model.classifier=null",), "model.classifier=null: is the network that conditioning=semi_supervised needs"),
        (("model=ladder_vae",), "conditioning=semi_supervised: is for models of one level of latents"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = forked("train.py", *SEMI, *arguments, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and message in done.stderr, done.stderr


def test_without_inference_all_labels_are_needed(tmp_path: Path) -> None:
    for more in ((), ("conditioning=label",)):
        done = forked("train.py", *TINY, *more, "data.labelled=20", f"hydra.run.dir={tmp_path}")
        assert done.returncode == 2, done.stderr
        assert "data.labelled=20: is for a model that infers labels: conditioning=semi_supervised" in done.stderr
    done = forked("train.py", *TINY, "objective=semi_supervised", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2 and "is for a model that infers a label" in done.stderr
