"""The data module: splits, protocols, augmentation, labels and batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nelbo.data import Arrays, Augmentation, Examples
from nelbo.data.loader import Batches
from nelbo.data.module import ImageData
from nelbo.data.noise import Draws
from nelbo.data.protocols import PROTOCOLS
from nelbo.errors import ConfigError, DataError
from tests.helpers.image_data import fake, make


def labels_of(data: ImageData, split: str) -> Tensor:
    return whole_split(data, split)[1]


def whole_split(data: ImageData, split: str, epoch: int | None = None) -> tuple[Tensor, Tensor]:
    """Return all images of a split as model input, and their labels."""
    examples = data.splits[split]
    batch = data.present(split, examples.__getitems__(torch.arange(len(examples))), epoch)
    return batch.x, batch.labels


def test_training_and_test_images_are_binarised_with_different_noise() -> None:
    """The same grey images are at the same positions of both arrays, so that only the noise differs."""
    grey = torch.full((40, 1, 4, 4), 128, dtype=torch.uint8)
    grey[:, :, 0, 0] = 127  # images with a single value are refused
    arrays = Arrays(Examples(grey, torch.arange(40)), Examples(grey.clone(), torch.arange(40)), 0)
    data = make(arrays, protocol="fixed", validation_size=0)
    data.setup()
    train, test = whole_split(data, "train")[0], whole_split(data, "test")[0]
    assert set(train.unique().tolist()) == {0, 1} and 0.4 < (train == test).float().mean() < 0.6


def test_the_split_is_fixed_complete_and_disjoint() -> None:
    first, repeated, other_seed = make(), make(), make(seed=1)
    for data in (first, repeated, other_seed):
        data.setup()
    assert torch.equal(labels_of(first, "val"), labels_of(repeated, "val"))
    assert not torch.equal(labels_of(first, "val"), labels_of(other_seed, "val"))
    both = torch.cat([labels_of(first, "train"), labels_of(first, "val")])
    assert sorted(both.tolist()) == list(range(100)) and len(first.splits["val"]) == 20


def test_a_validation_set_is_optional() -> None:
    data = make(validation_size=0)
    data.setup()
    assert len(data.splits["train"]) == 100 and data.val_dataloader() == []
    assert torch.equal(data.examples(5)[1], torch.arange(5))


def test_a_published_validation_set_is_used() -> None:
    data = make(fake(validation=25), validation_size=25)
    data.setup()
    assert torch.equal(labels_of(data, "val"), torch.arange(75, 100))
    with pytest.raises(ConfigError, match="validation_size=20: fake has a published validation set of 25"):
        make(fake(validation=25), validation_size=20).setup()
    share = make(fake(validation=25), validation_size=0.1)
    share.setup()
    assert len(share.splits["val"]) == 25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"validation_size": -1}, "validation_size=-1"),
        ({"validation_size": 1.5}, "validation_size=1.5: must be a whole number of images, or a share below 1"),
        ({"validation_size": "ten"}, "validation_size=ten"),
        ({"levels": 1}, "levels=1"),
        ({"shuffle": "no"}, "shuffle=no: must be true or false"),
        ({"seed": 2**70}, "seed=.*: must be at most"),
        ({"order_seed": "a"}, "order_seed=a"),
        ({"protocol": "dequantized", "levels": 17}, "protocol=dequantized: is for 256 levels; fake has 17"),
        ({"validation_size": 100}, "validation_size=100: must leave some of the 100"),
        ({"protocol": "static"}, "protocol=static: fake is not published in binary form"),
        ({"protocol": "dynamc"}, "protocol=dynamc: must be one of raw, dequantized, dynamic"),
        ({"shape": [1, 5, 5]}, r"shape=\[1, 5, 5\]: fake has images of shape \[1, 4, 4\]"),
    ],
)
def test_invalid_values_are_refused_with_their_key(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changes).setup()


def test_an_empty_data_set_is_refused_and_the_error_names_the_empty_splits() -> None:
    full, empty = fake(), fake(0)
    for arrays, parts in (
        (empty, "no training and no test images"),
        (Arrays(full.train, empty.test), "no test images"),
        (Arrays(empty.train, full.test), "no training images"),
        (Arrays(full.train, full.test, validation=100), "no training images"),
    ):
        with pytest.raises(DataError, match=f"fake: the data set is empty: it has {parts}"):
            make(arrays, validation_size=0).setup()


def test_the_size_of_the_validation_set_may_be_a_share() -> None:
    data = make(validation_size=0.25)
    data.setup()
    assert len(data.splits["val"]) == 25 and len(data.splits["train"]) == 75
    tiny = make(validation_size=1e-6)
    tiny.setup()
    assert len(tiny.splits["val"]) == 1


def test_without_a_configured_shape_that_of_the_images_is_used() -> None:
    data = make(shape=None)
    data.setup()
    assert data.shape == (1, 4, 4)


def test_protocols_give_the_pixels_that_they_describe() -> None:
    arrays = fake()
    presented: dict[str, dict[str, Tensor]] = {}
    for protocol in PROTOCOLS.keys() - {"static"}:
        data, repeated = make(arrays, protocol=protocol, seed=3), make(arrays, protocol=protocol, seed=3)
        data.setup()
        repeated.setup()
        presented[protocol] = {split: whole_split(data, split)[0] for split in ("train", "val", "test")}
        for split, x in presented[protocol].items():
            assert torch.equal(x, whole_split(repeated, split)[0])
            assert 0 <= x.min() and x.max() <= 1
            if protocol in ("dynamic", "fixed", "threshold"):
                assert set(x.unique().tolist()) == {0.0, 1.0}
        epochs = [whole_split(data, "train", epoch)[0] for epoch in (0, 1)]
        assert torch.equal(*epochs) == (protocol not in ("dynamic", "dequantized")), protocol
        assert torch.equal(whole_split(repeated, "train", 1)[0], epochs[1])
    raw = presented["raw"]
    grey = make_ready(arrays, seed=3).splits["train"]
    assert torch.equal(raw["train"], arrays.train.images[grey.indices].float() * (1 / 255))  # type: ignore[index]
    all_values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    x = PROTOCOLS["raw"].present(all_values, Draws(0, 0, torch.zeros(1, dtype=torch.long))).flatten()
    assert x[0] == 0 and x[255] == 1 and (x.diff() > 0).all()
    assert torch.equal(presented["threshold"]["test"], (raw["test"] >= 0.5).float())
    levels = presented["dequantized"]["train"] * 256
    assert torch.equal(levels.floor(), (raw["train"] * 255).round()) and levels.frac().std() > 0.2
    for split in ("val", "test"):  # both protocols are evaluated on the same pixels
        assert torch.equal(presented["dynamic"][split], presented["fixed"][split])
    smaller = make_ready(arrays, protocol="dynamic", seed=3, validation_size=5)
    assert torch.equal(whole_split(smaller, "test")[0], presented["dynamic"]["test"])
    other = make_ready(arrays, protocol="dynamic", seed=4)
    assert not torch.equal(whole_split(other, "test")[0], presented["dynamic"]["test"])


def make_ready(arrays: Arrays, **changes: object) -> ImageData:
    data = make(arrays, **changes)
    data.setup()
    return data


def test_pixels_that_are_drawn_once_are_augmented_afterwards() -> None:
    """An image with a fixed binarisation is mirrored, and not drawn again."""
    arrays = fake()
    data = make_ready(arrays, protocol="fixed", augment=Augmentation(flip=True, pad_crop=0))
    fixed, augmented = whole_split(data, "train")[0], whole_split(data, "train", 3)[0]
    same, mirrored = (augmented == fixed).flatten(1).all(1), (augmented == fixed.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all() and not same.all()


def test_labels_of_a_data_function_that_are_not_classes_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    images = fake().train.images
    for labels, expected in (
        (torch.eye(10)[torch.arange(100) % 10], torch.arange(100) % 10),
        (torch.rand(100, 14), None),
    ):
        data = make_ready(Arrays(Examples(images, labels), Examples(images[:30], labels[:30])), validation_size=0)
        assert torch.equal(labels_of(data, "train"), torch.full((100,), -1) if expected is None else expected)
    assert len(caplog.messages) == 1 and "labels of shape (100, 14) are not one class per image" in caplog.text
    with pytest.raises(DataError, match=r"fake: has labels of shape \(5,\) for 30 images"):
        make(Arrays(fake().train, Examples(images[:30], torch.arange(5)))).setup()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, [-1] * 100),
        ((torch.arange(100) % 7).bfloat16(), [index % 7 for index in range(100)]),
        ((torch.arange(100) % 7).float().requires_grad_(), [index % 7 for index in range(100)]),
        ((torch.arange(100) % 7).numpy(), [index % 7 for index in range(100)]),
        ([index % 7 for index in range(100)], [index % 7 for index in range(100)]),
        (["cat", "dog"] * 50, [0, 1] * 50),
    ],
    ids=["None", "bfloat16", "requires_grad", "numpy", "list", "texts"],
)
def test_labels_of_a_data_function_may_have_any_type(labels: object, expected: list[int]) -> None:
    images = fake().train.images
    part = Examples(images, labels)  # type: ignore[arg-type]
    data = make_ready(Arrays(part, part), validation_size=0)
    assert labels_of(data, "train").tolist() == expected and data.splits["train"].labels.dtype == torch.int64


@pytest.mark.parametrize("labels", [torch.eye(100).to_sparse(), [[1], [2, 3]] * 50])
def test_labels_of_a_data_function_that_are_not_an_array_are_refused_in_one_line(labels: object) -> None:
    arrays = Arrays(Examples(fake().train.images, labels), fake().test)  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match=r"fake: its train labels are a .* that is not an array \(.*\); return one"
    ) as caught:
        make(arrays).setup()
    assert "\n" not in str(caught.value)


def test_training_and_test_images_must_have_the_same_shape() -> None:
    arrays = Arrays(fake().train, Examples(torch.zeros(5, 1, 9, 9, dtype=torch.uint8), torch.arange(5)))
    with pytest.raises(DataError, match=r"training images have shape \(1, 4, 4\), test images \(1, 9, 9\)"):
        make(arrays).setup()


def test_pixels_depend_on_the_example_and_not_on_the_batch() -> None:
    """In an epoch, batches of any size, order and process have the same pixels."""
    arrays = fake()
    data = make_ready(arrays, protocol="dynamic", augment=Augmentation(flip=True, pad_crop=1))
    whole, labels = whole_split(data, "train", 5)
    batches = Batches(len(labels), 7, shuffle=True, seed=1, rank=1, world_size=2)
    for positions in batches:
        x = data.present("train", data.splits["train"].__getitems__(positions), 5).x
        assert torch.equal(x, whole[positions])


def test_augmentation_is_for_training_only() -> None:
    arrays = fake()
    plain, augmented = make_ready(arrays), make_ready(arrays, augment=Augmentation(flip=True, pad_crop=1))
    for split in ("val", "test"):
        assert torch.equal(whole_split(plain, split)[0], whole_split(augmented, split)[0])
    assert not torch.equal(whole_split(plain, "train", 0)[0], whole_split(augmented, "train", 0)[0])
    assert torch.equal(plain.starting_batch().x, augmented.starting_batch().x)


@pytest.mark.parametrize("protocol", ["fixed", "dynamic"])
def test_binarisation_keeps_the_mean_of_every_grey_value(protocol: str) -> None:
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(4000, 1, 16, 16)
    binary = PROTOCOLS[protocol].present(grey, Draws(0, 0, torch.arange(4000)))
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    p = torch.arange(256) / 255
    error = (binary.mean(0).flatten() - p).abs()
    assert (error <= 5 * (p * (1 - p) / 4000).sqrt()).all()


def test_provenance_distinguishes_data_sets() -> None:
    arrays = fake()
    first, repeated = make_ready(arrays).provenance(), make_ready(arrays).provenance()
    assert first == repeated
    assert first["train_images"] == 80 and first["val_images"] == 20 and first["test_images"] == 30
    changed = Arrays(Examples(arrays.train.images.clone(), arrays.train.labels), arrays.test)
    changed.train.images[3, 0, 0, 0] ^= 1  # type: ignore[index]
    assert make_ready(changed).provenance()["data_sha256"] != first["data_sha256"]
    relabelled = Arrays(Examples(arrays.train.images, arrays.train.labels.flip(0)), arrays.test)
    assert relabelled.sha256() != arrays.sha256()


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("count", [100, 97, 33])
def test_every_example_is_visited_exactly_once(world_size: int, shuffle: bool, count: int) -> None:
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
        torch.rand(epoch + seed)  # the global random state must have no effect
        return torch.cat(list(batches)).tolist()

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_data_loaders_return_whole_batches(workers: int) -> None:
    data = make(num_workers=workers)
    data.setup()
    for _ in range(2):
        labels = torch.cat([labels for _, labels, *_ in data.train_dataloader()])
        assert sorted(labels.tolist()) == sorted(labels_of(data, "train").tolist())
    images, *_ = next(iter(data.test_dataloader()))
    assert images.dtype == torch.uint8 and images.shape == (16, 1, 4, 4)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_only_batches_too_small_for_an_objective_are_refused(world_size: int) -> None:
    """The objective compares the images of a batch over all processes."""
    for batch_size in range(2, 30):
        data = make(batch_size=batch_size, validation_size=21)
        data.setup()
        smallest = {
            split: min(
                sum(map(len, shares))
                for shares in zip(
                    *(
                        Batches(
                            len(data.splits[split]), batch_size, shuffle=False, rank=rank, world_size=world_size
                        ).batches()
                        for rank in range(world_size)
                    ),
                    strict=True,
                )
            )
            for split in ("train", "val")
        }
        data.check_batches(1, 1, validated=True)
        if min(smallest.values()) >= 2:
            data.check_batches(2, world_size, validated=True)
        else:
            with pytest.raises(ConfigError, match=rf"data.batch_size={batch_size}: leaves a batch of [01] of the"):
                data.check_batches(2, world_size, validated=True)
