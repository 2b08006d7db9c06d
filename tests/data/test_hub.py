"""The data set `data=huggingface`: data sets in the formats of the Hugging Face Hub."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nelbo.data import huggingface
from nelbo.data.sets.pictures import to_picture
from nelbo.errors import ConfigError, DataError
from tests.helpers.pictures import folder, picture

pytestmark = pytest.mark.usefixtures("cache")


HUB = {
    **{"name": None, "split": None, "streaming": False, "image_size": 16, "channels": 3, "max_megapixels": 90},
    **{"test_size": 0.25, "seed": 0},
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_in_a_format_of_the_hub_is_read(tmp_path: Path, streaming: bool) -> None:
    folder(tmp_path / "pets" / "train", 10)
    folder(tmp_path / "pets" / "test", 4)
    arrays = huggingface(**{**HUB, "name": str(tmp_path / "pets"), "streaming": streaming})  # type: ignore[arg-type]
    assert (len(arrays.train), len(arrays.test)) == (10, 4) and arrays.classes == ("cat", "dog")
    images, labels, *_ = arrays.test.__getitems__(torch.arange(4))
    with Image.open(tmp_path / "pets" / "test" / "dog" / "001.png") as opened:
        assert any(np.array_equal(image, to_picture(opened, 16, 3).pixels) for image in images[labels == 1])
    picture(tmp_path / "pets" / "test" / "dog" / "new.png")
    arrays = huggingface(**{**HUB, "name": str(tmp_path / "pets"), "streaming": streaming})  # type: ignore[arg-type]
    assert len(arrays.test) == 5


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("streaming", [False, True])
def test_the_validation_split_of_a_data_set_is_used_without_warnings(
    tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name, count in (("train", 10), ("validation", 6), ("test", 4)):
        folder(tmp_path / "pets" / name, count)
    options = {**HUB, "name": str(tmp_path / "pets"), "streaming": streaming}
    for _ in range(2):  # the store is created, then read
        arrays = huggingface(**options)  # type: ignore[arg-type]
        assert (len(arrays.train), arrays.validation, len(arrays.test)) == (16, 6, 4)
    images, labels, *_ = arrays.train.__getitems__(torch.arange(10, 16))
    with Image.open(tmp_path / "pets" / "validation" / "dog" / "001.png") as opened:
        assert any(np.array_equal(image, to_picture(opened, 16, 3).pixels) for image in images[labels == 1])
    shutil.rmtree(tmp_path / "pets" / "test")
    arrays = huggingface(**{**options, "test_size": 3})  # type: ignore[arg-type]
    assert (len(arrays.train), arrays.validation, len(arrays.test)) == (13, 6, 3)
    assert not caplog.messages


@pytest.mark.usefixtures("offline")
def test_unused_splits_and_columns_are_named_in_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    datasets = pytest.importorskip("datasets")
    folder(tmp_path / "files", 6)
    rows = {"picture": sorted(map(str, (tmp_path / "files").rglob("*.png"))), "caption": [*"abcdef"]}
    dataset = datasets.Dataset.from_dict(rows).cast_column("picture", datasets.Image())
    for split in ("train", "unlabeled"):
        (tmp_path / "set").mkdir(exist_ok=True)
        dataset.to_parquet(tmp_path / "set" / f"{split}.parquet")
    config = [{"split": split, "path": f"{split}.parquet"} for split in ("train", "unlabeled")]
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {config}\n---\n")
    arrays = huggingface(**{**HUB, "name": str(tmp_path / "set")})  # type: ignore[arg-type]
    assert len(arrays.train) == 4 and (arrays.train.labels == -1).all()
    unused, unlabelled = caplog.messages
    assert unused.endswith("set: splits that are not used: unlabeled")
    without_labels = "the images are used without labels; what needs labels is left out: probe"
    assert f"no column of classes among caption: {without_labels}" in unlabelled


@pytest.mark.usefixtures("offline")
def test_an_empty_split_of_a_stream_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without streaming, the library itself reports empty files."""
    datasets = pytest.importorskip("datasets")
    folder(tmp_path / "files", 6)
    rows = {"image": sorted(map(str, (tmp_path / "files").rglob("*.png")))}
    dataset = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    (tmp_path / "set").mkdir()
    dataset.to_parquet(tmp_path / "set" / "train.parquet")
    dataset.select([]).to_parquet(tmp_path / "set" / "validation.parquet")
    options = {**HUB, "name": str(tmp_path / "set"), "test_size": 2, "streaming": True}
    arrays = huggingface(**options)  # type: ignore[arg-type]
    assert (len(arrays.train), arrays.validation) == (4, 0)
    assert caplog.messages == [f"{tmp_path / 'set'}: its validation split holds no pictures, so it is not used"]
    dataset.select([]).to_parquet(tmp_path / "set" / "test.parquet")
    with pytest.raises(DataError, match="set: its split test holds no pictures; choose another with data.split"):
        huggingface(**options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("offline")
def test_a_test_set_is_drawn_if_there_is_none_and_invalid_names_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "pets" / "train", 12)
    arrays = huggingface(**{**HUB, "name": str(tmp_path / "pets")})  # type: ignore[arg-type]
    assert (len(arrays.train), len(arrays.test)) == (9, 3)
    pets = str(tmp_path / "pets")
    for changes, message in (
        ({"name": None}, "name=null: must name a data set of the hub"),
        ({"name": "/nowhere/at/all"}, "name=/nowhere/at/all: cannot be loaded by the datasets"),
        ({"name": pets, "split": "tran"}, "split=tran: cannot be loaded"),
        ({"name": pets, "split": "train[:3]", "streaming": True}, "a stream has no slices"),
        ({"name": pets, "streaming": "yes"}, "streaming=yes: must be true or false"),
    ):
        with pytest.raises(ConfigError, match=message):
            huggingface(**{**HUB, **changes})  # type: ignore[arg-type]
    part = huggingface(**{**HUB, "name": pets, "split": "train[:8]"})  # type: ignore[arg-type]
    assert (len(part.train), len(part.test)) == (6, 2)
    damaged = tmp_path / "pets" / "train" / "dog" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    for streaming in (False, True):
        with pytest.raises(DataError, match=f"{pets}: the picture of row .* cannot be read .*; repair or remove it"):
            huggingface(**{**HUB, "name": pets, "streaming": streaming})  # type: ignore[arg-type]
    (tmp_path / "texts" / "train").mkdir(parents=True)
    (tmp_path / "texts" / "train" / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="has no column of images, only text"):
        huggingface(**{**HUB, "name": str(tmp_path / "texts")})  # type: ignore[arg-type]


def test_a_missing_package_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match="^data=huggingface: needs a package: pip install datasets"):
        huggingface(**{**HUB, "name": "any"})  # type: ignore[arg-type]
