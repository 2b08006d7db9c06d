"""Data: known checksums, splits, protocols, and every example exactly once."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import torch

from nelbo.data import Arrays, digits, mnist
from nelbo.data.idx import read_idx
from nelbo.data.loader import Batches
from nelbo.data.module import ImageData
from nelbo.data.protocols import as_floats, binarize
from nelbo.data.sources import _read_amat
from nelbo.errors import ConfigError, DataError


def make(arrays: Arrays | None = None, **changes: object) -> ImageData:
    arrays = arrays or fake()
    options = {
        "name": "fake",
        "source": lambda: arrays,
        "shape": arrays.shape,
        "protocol": "grey",
        "batch_size": 16,
        "validation_size": 20,
        "seed": 0,
        "shuffle": True,
        "num_workers": 0,
        "order_seed": 0,
    }
    return ImageData(**{**options, **changes})  # type: ignore[arg-type]


def fake(count: int = 100, validation: int = 0) -> Arrays:
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8)
    return Arrays(images, torch.arange(count), images[:30], torch.arange(30), validation)


def test_mnist_is_the_original() -> None:
    arrays = mnist()
    assert arrays.train_images.shape == (60_000, 1, 28, 28) and arrays.test_images.shape == (10_000, 1, 28, 28)
    assert arrays.train_images.dtype == torch.uint8
    # The MD5 sums under which the four files have been published since 1998, headers put back.
    digests = {
        "6bbc9ace898e44ae57da46a324031adb": (arrays.train_images.squeeze(1), 3),
        "2646ac647ad5339dbf082846283269ea": (arrays.test_images.squeeze(1), 3),
        "a25bea736e30d166cdddb491f175f624": (arrays.train_labels.to(torch.uint8), 1),
        "27ae3e4e09519cfbb04c329615203637": (arrays.test_labels.to(torch.uint8), 1),
    }
    for digest, (tensor, dimensions) in digests.items():
        header = struct.pack(f">4B{dimensions}I", 0, 0, 8, dimensions, *tensor.shape)
        assert hashlib.md5(header + tensor.numpy().tobytes()).hexdigest() == digest
    mean, deviation = arrays.train_images.float().mean() / 255, arrays.train_images.float().std() / 255
    assert abs(mean - 0.1307) < 1e-4 and abs(deviation - 0.3081) < 1e-4
    assert arrays.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_digits_are_scikit_learns_in_their_order() -> None:
    from sklearn.datasets import load_digits

    arrays, bunch = digits(), load_digits()
    assert arrays.train_images.shape == (1500, 1, 8, 8) and arrays.test_images.shape == (297, 1, 8, 8)
    assert arrays.train_images.max() == 255 and arrays.train_images[0, 0, 0, 3] == round(13 * 255 / 16)
    back = torch.cat([arrays.train_images, arrays.test_images]).float() * 16 / 255
    assert torch.equal(back.round().squeeze(1).double(), torch.from_numpy(bunch.images))
    assert torch.equal(arrays.test_labels, torch.from_numpy(bunch.target[1500:]))


def test_the_split_is_fixed_complete_and_disjoint() -> None:
    one, two, other = make(), make(), make(seed=1)
    for data in (one, two, other):
        data.setup()
    assert torch.equal(one.splits["val"].labels, two.splits["val"].labels)
    assert not torch.equal(one.splits["val"].labels, other.splits["val"].labels)
    both = torch.cat([one.splits["train"].labels, one.splits["val"].labels])
    assert sorted(both.tolist()) == list(range(100)) and len(one.splits["val"]) == 20


def test_no_validation_set_is_allowed() -> None:
    data = make(validation_size=0)
    data.setup()
    assert len(data.splits["train"]) == 100 and data.val_dataloader() == []
    assert torch.equal(data.examples(5)[1], torch.arange(5))


def test_a_published_validation_set_is_kept() -> None:
    data = make(fake(validation=25), validation_size=25)
    data.setup()
    assert torch.equal(data.splits["val"].labels, torch.arange(75, 100))
    with pytest.raises(ConfigError, match="validation_size=20: fake comes with 25"):
        make(fake(validation=25), validation_size=20).setup()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"validation_size": -1}, "validation_size=-1"),
        ({"validation_size": 100}, "validation_size=100: must leave some of the 100"),
        ({"protocol": "static"}, "protocol=static: fake is not published in binary form"),
        ({"protocol": "dynamc"}, "protocol=dynamc: must be one of grey, dynamic"),
        ({"shape": [1, 5, 5]}, r"shape=\[1, 5, 5\]: fake has images of shape \[1, 4, 4\]"),
    ],
)
def test_bad_values_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changes).setup()


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        make(fake(0), validation_size=0).setup()


def test_protocols() -> None:
    served, arrays = {}, fake()
    for protocol in ("grey", "dynamic", "fixed", "threshold"):
        data = make(arrays, protocol=protocol, seed=3)
        data.setup()
        again = make(arrays, protocol=protocol, seed=3)
        again.setup()
        for split in ("train", "val", "test"):
            assert torch.equal(data.splits[split].images, again.splits[split].images)
        served[protocol] = data
        if protocol != "grey":
            assert set(data.splits["val"].images.unique().tolist()) <= {0, 255}
            assert set(data.starting_images().unique().tolist()) <= {0.0, 1.0}
    assert set(served["fixed"].splits["train"].images.unique().tolist()) <= {0, 255}
    grey = served["grey"].splits
    assert torch.equal(served["dynamic"].splits["train"].images, grey["train"].images)
    assert torch.equal(served["threshold"].splits["test"].images > 0, grey["test"].images >= 128)
    for split in ("val", "test"):  # so that two protocols are judged on the same pixels
        assert torch.equal(served["dynamic"].splits[split].images, served["fixed"].splits[split].images)
    smaller = make(arrays, protocol="dynamic", seed=3, validation_size=5)
    smaller.setup()
    assert torch.equal(smaller.splits["test"].images, served["dynamic"].splits["test"].images)
    assert torch.equal(served["grey"].starting_images(), grey["train"].images.float() / 255)


@pytest.mark.parametrize("way", ["once", "each batch"])
def test_binarisation_keeps_the_mean_of_every_grey_value(way: str) -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(4000, 1, 1, 1)
    if way == "once":
        binary = binarize(grey, torch.Generator().manual_seed(0)).float() / 255
    else:
        binary = as_floats(grey, resample=True)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    p = torch.arange(256) / 255
    error = (binary.mean(0).flatten() - p).abs()
    assert (error <= 5 * (p * (1 - p) / 4000).sqrt()).all()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [100, 97, 33])
def test_every_example_comes_exactly_once(world_size: int, shuffle: bool, count: int) -> None:
    ranks = [Batches(count, 16, shuffle=shuffle, rank=rank, world_size=world_size) for rank in range(world_size)]
    batches = [list(rank) for rank in ranks]
    assert len({len(rank) for rank in batches}) == 1 and all(
        len(rank) == len(b) for rank, b in zip(ranks, batches, strict=True)
    )
    indices = torch.cat([batch for rank in batches for batch in rank])
    assert sorted(indices.tolist()) == list(range(count))
    assert all(0 < len(batch) <= 16 for rank in batches for batch in rank)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(50, 8, shuffle=True, seed=seed)
        batches.set_epoch(epoch)
        torch.rand(epoch + seed)  # the global random state has no say
        return torch.cat(list(batches)).tolist()

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_serve_whole_batches(workers: int) -> None:
    data = make(num_workers=workers)
    data.setup()
    for _ in range(2):
        labels = torch.cat([labels for _, labels in data.train_dataloader()])
        assert sorted(labels.tolist()) == sorted(data.splits["train"].labels.tolist())
    images, _ = next(iter(data.test_dataloader()))
    assert images.dtype == torch.uint8 and images.shape == (16, 1, 4, 4)


def test_larochelles_format() -> None:
    rows = torch.randint(0, 2, (3, 784))
    text = "".join(" ".join(map(str, row.tolist())) + " \n" for row in rows)
    images = _read_amat(text.replace(" \n", "\n").encode())
    assert torch.equal(images.flatten(1) / 255, rows)


def test_broken_idx_files_are_named(tmp_path: Path) -> None:
    good = struct.pack(">4B2I", 0, 0, 8, 2, 2, 3) + bytes(range(6))
    path = tmp_path / "file"
    path.write_bytes(good)
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    for content in (b"", good[:3], good[:6], good[:-1], good + b"x", b"<html>", gzip.compress(good)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            read_idx(path)
