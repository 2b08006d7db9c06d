"""Datasets and DataModules of a user's own as the data of a run."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nelbo.config.build import Factory
from nelbo.config.comparison import incomparable, unchecked
from nelbo.data.items import as_batch, left_out
from nelbo.data.module import ImageData
from nelbo.data.own import SAMPLE
from nelbo.data.own_dataset import OwnDataset
from nelbo.data.own_module import OwnModule
from nelbo.errors import ConfigError, DataError
from tests.helpers.own_data import (
    BarModule,
    Bars,
    Broken,
    Restless,
    Scaled,
    SizedStream,
    Stream,
    Vectors,
    WithoutTest,
    WithoutValidation,
    some_digits,
)


def dataset(source: Any, **options: Any) -> OwnDataset:
    """Return a Dataset as data, set up."""
    given: dict[str, Any] = {
        **{"name": "mine", "test_source": None, "val_source": None, "test_size": 0.1, "validation_size": 0.1},
        **{"shape": None, "levels": None, "batch_size": 16, "seed": 0, "shuffle": True, "num_workers": 0},
        "order_seed": 0,
    }
    data = OwnDataset(source=source, **{**given, **options})
    data.setup()
    return data


def module(own: Any, **options: Any) -> OwnModule:
    """Return a DataModule as data, set up."""
    data = OwnModule(module=own, **{"name": "mine", "shape": None, "levels": None, "order_seed": 0, **options})
    data.setup()
    return data


def epochs(loader: Any, numbers: range, after: Callable[[Any], Any]) -> list[list[Tensor]]:
    """Return the x of all batches of some epochs."""
    batches = []
    for epoch in numbers:
        (loader.batch_sampler or loader).set_epoch(epoch)
        batches.append([after(batch).x for batch in loader])
    return batches


def equal(one: list[list[Tensor]], other: list[list[Tensor]]) -> bool:
    pairs = zip(sum(one, []), sum(other, []), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("form", ["x", "pair", "triple", "mapping", "array", "target"])
def test_items_of_every_form_become_batches(form: str) -> None:
    data = dataset(Bars(form=form))
    (batch, *_) = data.test_dataloader()
    x, labels, columns = data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
    rows = batch.positions
    assert x.dtype == torch.float32 and torch.equal(x, Bars().x[rows])
    assert labels.dtype == torch.int64
    assert torch.equal(labels, Bars().labels[rows] if form not in ("x", "target") else torch.full((16,), -1))
    expected = {"triple": {"brightness"}, "mapping": {"brightness"}, "target": {"target"}}
    assert set(columns) == expected.get(form, set())
    test = data.splits["test"]
    column = {"triple": "brightness", "mapping": "brightness", "target": "target"}.get(form)
    if column:
        known = test.known(column)
        assert known is not None and known.shape == (20,) and known.dtype == torch.float32
        assert torch.equal(known[:16], columns[column])
    known = test.known("label")
    assert known is not None and torch.equal(known[:16], labels)
    assert test.known("colour") is None


def test_uint8_is_divided_by_255_and_has_256_levels() -> None:
    data = dataset(Bars(form="bytes"))
    assert data.levels == 256 and dataset(Bars()).levels is None
    x = data.examples(5).x
    stored = (Bars().x * 255).round()
    rows = data.splits["val"].__getitems__(torch.arange(5)).positions
    assert torch.equal(x, stored[rows] * (1 / 255)) and x.max() <= 1


def test_the_splits_are_disjoint_and_those_that_were_asked_for() -> None:
    data = dataset(Bars(), test_size=30, validation_size=0.2)
    rows = {
        split: examples.__getitems__(torch.arange(len(examples))).positions for split, examples in data.splits.items()
    }
    assert {split: len(part) for split, part in rows.items()} == {"train": 136, "val": 34, "test": 30}
    assert torch.equal(torch.cat(list(rows.values())).sort().values, torch.arange(200))
    source = Factory(Bars, {"count": 120}, "data.source")
    own_test = dataset(source, test_source={"train": False, "count": 40}, val_source=Factory(Bars, {"count": 7}, ""))
    assert {split: len(part) for split, part in own_test.splits.items()} == {"train": 120, "val": 7, "test": 40}
    assert torch.equal(own_test.read("test", torch.arange(40)).x, Bars(train=False, count=40).x)
    assert own_test.classes == ("flat", "upright")
    assert len(dataset(Bars(), validation_size=0).splits["val"]) == 0
    assert dataset(Bars(), validation_size=0).val_dataloader() == []


def test_random_items_depend_on_seed_epoch_and_index_and_not_on_workers() -> None:
    runs = {}
    for name, options in {
        "one": {},
        "again": {},
        "workers": {"num_workers": 2},
        "seed": {"order_seed": 1},
    }.items():
        data = dataset(Bars(noise=0.1), **options)
        torch.manual_seed(len(runs))
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        present = lambda batch, data=data: data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)  # noqa: E731
        runs[name] = epochs(data.train_dataloader(), range(2), present)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:], "training has random numbers of its own"
        assert torch.equal(data.examples(5).x, data.read("val", torch.arange(5)).x)
    assert equal(runs["one"], runs["again"]) and equal(runs["one"], runs["workers"])
    assert not equal(runs["one"], runs["seed"])
    first, second = (torch.cat(batches).flatten(1).mean(1).sort().values for batches in runs["one"])
    assert not torch.equal(first, second), "each epoch has noise of its own"


def test_a_batch_of_training_can_be_read_again() -> None:
    data = dataset(Bars(noise=0.1))
    loader: Any = data.train_dataloader()
    loader.batch_sampler.set_epoch(3)
    (_, batch, *_) = loader
    again = data.read("train", loader.batch_sampler.batches()[1], epoch=3)
    assert torch.equal(again.x, data.present("train", batch).x)
    assert not torch.equal(again.x, data.read("train", loader.batch_sampler.batches()[1], epoch=4).x)


def test_the_loaders_of_a_module_depend_on_seed_and_epoch_alone() -> None:
    def run(own: BarModule, numbers: range, position: tuple[int, int] = (0, 0)) -> list[list[Tensor]]:
        data = module(own)
        data.position = position
        loader = data.train_dataloader()
        loader.epoch = position[0]
        return epochs(loader, numbers, lambda batch: data.on_after_batch_transfer(batch, 0))

    before = torch.get_rng_state()
    whole = run(BarModule(noise=0.1), range(3))
    assert torch.equal(before, torch.get_rng_state()), "training has random numbers of its own"
    assert not equal(whole[:1], whole[1:2])
    torch.manual_seed(1)
    assert equal(whole[1:], run(BarModule(noise=0.1), range(1, 3), (1, 0)))
    within = run(BarModule(noise=0.1), range(1, 3), (1, 3))
    assert len(within[0]) == 5 and equal([whole[1][3:], whole[2]], within)
    in_workers = run(BarModule(noise=0.1, workers=2), range(3))
    assert equal(in_workers, run(BarModule(noise=0.1, workers=2), range(3)))
    assert equal(in_workers[1:], run(BarModule(noise=0.1, workers=2), range(1, 3), (1, 0)))


def test_a_module_is_prepared_and_set_up_once_and_its_splits_are_read() -> None:
    own = BarModule()
    data = module(own)
    data.setup("fit")
    assert own.calls == ["prepare_data", "fit", "test"]
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 160, "val": 40, "test": 50}
    assert torch.equal(data.read("test", torch.tensor([4, 2])).x, Bars(train=False, count=50).x[[4, 2]])
    assert data.num_batches(1) == 8 and data.shape == (1, 8, 8) and data.batch_size == 20
    data.check_batches(20, 1, validated=True)
    with pytest.raises(
        ConfigError, match=r"BarModule: leaves a batch of 20 train examples, but this objective needs 21"
    ):
        data.check_batches(21, 1, validated=True)
    with pytest.raises(ConfigError, match=r"^trainer.devices=2: the loaders of a DataModule would give every process"):
        data.check_batches(1, 2, validated=True)
    assert len(module(WithoutValidation()).splits["val"]) == 0


def test_the_hooks_of_a_module_change_what_is_read_as_outside_of_training() -> None:
    data = module(Scaled())
    assert torch.equal(data.read("test", torch.arange(3)).x, 1 - Bars(train=False, count=50).x[:3])
    assert torch.equal(data.examples(3).x, data.read("val", torch.arange(3)).x)
    assert data.module.trainer is None


def test_a_module_without_positions_trains_and_cannot_be_evaluated() -> None:
    data = module(BarModule(kind="SizedStream"))
    assert data.provenance()["data_sha256"] == "" and data.num_batches(1) == 10
    assert torch.equal(data.starting_batch().x, Stream().x[:20]) and data.examples(3).x.shape == (3, 1, 8, 8)
    assert any("nelbo evaluate and nelbo draw cannot be used" in line for line in data.notes())
    with pytest.raises(DataError, match=r"BarModule, train: the Dataset is not map-style"):
        data.read("train", torch.arange(3))


class Wide(Bars):
    """Images with values above 1."""

    def __getitem__(self, index: int) -> Any:
        return self.x[index] * 2.2 - self.x[index].min() * 2.2


BAD = {
    r"source=.*Stream: is an IterableDataset, which has no positions": lambda: dataset(Stream()),
    r"source=.*BarModule: is no Dataset; use data=datamodule data.module._target_=": lambda: dataset(BarModule()),
    r"source=.*Arrays: is no Dataset; use data=function data.source._target_=": lambda: dataset(some_digits),
    r"source=builtins.object: is no map-style Dataset: it needs": lambda: dataset(object()),
    r"source=.*Bars: is empty": lambda: dataset(Bars(count=0)),
    r"test_size=0: a run needs test examples": lambda: dataset(Bars(), test_size=0),
    r"validation_size=200: must leave some of the": lambda: dataset(Bars(), validation_size=200),
    r"test_source=\{train:false\}: options need a source": lambda: dataset(Bars(), test_source={"train": False}),
    r"shape=\[1, 9, 9\]: mine has examples of shape \[1, 8, 8\]": lambda: dataset(Bars(), shape=[1, 9, 9]),
    r"levels=17: x of .* is uint8, of which 255 is white": lambda: dataset(Bars(form="bytes"), levels=17),
    r"Broken, training: item \d+ is a PIL image: let a transform": lambda: dataset(Broken("pil", 0), seed=3),
    r"item \d+ has the shape \[1, 7, 8\] and others have \[1, 8, 8\]": lambda: dataset(Broken("shape", 0), seed=3),
    r"item \d+ has values that are not finite": lambda: dataset(Broken("hole", 0), seed=3),
    r"item \d+ is a str, but an item must be x, \(x, label\)": lambda: dataset(Broken("text")),
    r"x has the shape \[8, 8\].*for a grey image add a dimension": lambda: dataset(Broken("grey")),
    r"x is of type int64, but must be uint8": lambda: dataset(Broken("whole")),
    r"test: x has the shape \[64\], and of training \[1, 8, 8\]": lambda: dataset(Bars(), test_source=Vectors()),
    r"module=.*Bars: is no LightningDataModule; use data=dataset data.source._target_=": lambda: module(Bars()),
    r"module=.*WithoutTest: has no test_dataloader": lambda: module(WithoutTest()),
    r"module=BarModule.train_dataloader: has no length": lambda: module(BarModule(kind="Stream")),
    r"source=.*Bars: made a Bars, and not nelbo.data.Arrays; use data=dataset": lambda: ImageData(
        name="x", source=Bars, batch_size=1, validation_size=0
    ).setup(),
}


def test_real_numbers_are_served_as_they_are() -> None:
    data = dataset(Wide())
    data.setup()
    start = data.starting_batch()
    assert start.x.max() > 1
    low, high = data.value_range(start) or (0.0, 0.0)
    assert start.x.min() <= low < high <= start.x.max()
    inside = dataset(Bars())
    inside.setup()
    assert inside.value_range(inside.starting_batch()) is None


@pytest.mark.parametrize("message", BAD)
def test_data_that_cannot_be_used_are_refused_in_one_line(message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        BAD[message]()
    assert len(str(caught.value).splitlines()) == 1


def test_dark_bytes_are_not_taken_for_pictures() -> None:
    class Dark(Bars):
        def __getitem__(self, index: int) -> Any:
            return (self.x[index] * 16).to(torch.uint8)

    with pytest.raises(
        ConfigError, match=r"levels=null: no value of x is above 1\d in a sample of .* and 255 is white"
    ):
        dataset(Dark())
    assert dataset(Dark(), levels=256).levels == 256


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", ["hole", "shape", "pil"])
def test_an_item_that_becomes_bad_in_training_is_named(how: str, workers: int) -> None:
    """It is not among those that are looked at when the run starts."""
    data = dataset(Bars(count=2000), num_workers=workers, batch_size=50)
    train: Any = data.splits["train"]
    sampled = set(train.rows[train.sample].tolist())
    bad = next(row for row in train.rows.tolist() if row not in sampled)
    train.dataset = Broken(how, at=bad, count=2000)
    with pytest.raises(DataError, match=rf"^tests.helpers.own_data.Bars, training: item {bad} .*$"):
        for batch in data.train_dataloader():
            data.on_before_batch_transfer(batch, 0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("how", "message"), [("hole", "values that are not finite"), ("shape", "different shapes")])
def test_a_bad_batch_of_a_module_is_one_line(how: str, message: str, workers: int) -> None:
    own = BarModule(workers=workers)
    data = module(own)
    data.loaders["train"] = torch.utils.data.DataLoader(Broken(how), 20, num_workers=workers)
    with pytest.raises(DataError, match=rf"^tests.helpers.own_data.BarModule, train: .*{message}[^\n]*$"):
        list(data.train_dataloader())


def test_a_sample_of_the_data_is_hashed_and_comparisons_say_so() -> None:
    one, other = dataset(Bars()).provenance(), dataset(Bars(), validation_size=0.3, order_seed=5).provenance()
    assert one["data_sha256"].startswith(SAMPLE) and one["data_sha256"] == other["data_sha256"]
    assert dataset(Bars(noise=0.1)).provenance()["data_sha256"] != one["data_sha256"]
    noisy = [dataset(Bars(noise=0.1), order_seed=seed).provenance()["data_sha256"] for seed in range(2)]
    assert noisy[0] == noisy[1]
    assert "checked on a sample" in unchecked({"a": one, "b": other}) and not incomparable({"a": one, "b": other})
    assert "data_sha256 are not comparable" in incomparable({"a": one, "b": module(BarModule()).provenance()})
    restless = dataset(Restless())
    assert restless.provenance()["data_sha256"] == "" and any("twice" in line for line in restless.notes())
    again = {"a": restless.provenance(), "b": {**restless.provenance(), "data": "another"}}
    assert "without a SHA-256" in incomparable(again) and "was not checked" in unchecked(again)
    arrays = {"a": {"data_sha256": "0" * 64}, "b": {"data_sha256": "0" * 64}}
    assert unchecked(arrays) == ""


def test_entries_that_no_model_is_given_are_named() -> None:
    x = torch.zeros(1, 8, 8)
    assert left_out({"x": x, "label": 1, "name": "a", "size": 0.5}) == ["name"]
    assert left_out((x, "three", {"name": "a"}, 4)) == ["entry 1", "name", "entry 3"]
    assert left_out((x, np.int64(3), {"size": np.float32(1)})) == [] and left_out(x) == []
    assert any("not used: name" in line for line in dataset(Bars(form="mapping")).notes())


def test_batches_keep_what_has_an_entry_for_each_example() -> None:
    x = torch.zeros(5, 1, 8, 8)
    batch = as_batch((x, torch.zeros(5, dtype=torch.uint8), {"a": torch.zeros(5, 2).double(), "b": torch.zeros(3)}))
    assert (
        batch.labels.dtype == torch.int64 and batch.columns["a"].dtype == torch.float32 and set(batch.columns) == {"a"}
    )
    assert as_batch({"x": x, "names": ["a"] * 5}).columns == {}
    for bad in ({"y": x}, [], "x", (1, x)):
        with pytest.raises(TypeError, match="a batch must be a tensor x"):
            as_batch(bad)
    assert partial(as_batch, x)().labels.tolist() == [-1] * 5


def test_sized_streams_have_no_positions() -> None:
    with pytest.raises(ConfigError, match="is an IterableDataset"):
        dataset(SizedStream())
