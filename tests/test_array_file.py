"""data=arrays: arrays that people bring."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nelbo.data import array_file
from nelbo.data.memory_map import MemoryMap
from nelbo.errors import ConfigError, DataError
from tests.conftest import Train
from tests.pictures import RANDOM

pytestmark = pytest.mark.usefixtures("cache")


PIXELS = RANDOM.integers(0, 256, (40, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 7


def write(path: Path, **arrays: np.ndarray) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    else:
        np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("form", ["first", "last", "split", "keras", "float", "bool"])
def test_array_files(tmp_path: Path, suffix: str, form: str) -> None:
    path, expected, test = tmp_path / f"x{suffix}", PIXELS, 0.25
    match form:
        case "first":
            write(path, images=PIXELS, labels=LABELS)
        case "last":
            write(path, images=PIXELS.transpose(0, 2, 3, 1), labels=LABELS[:, None])
        case "split" | "keras":
            names = ("train_images", "train_labels", "test_images", "test_labels")
            names = names if form == "split" else ("x_train", "y_train", "x_test", "y_test")
            write(path, **dict(zip(names, (PIXELS[:30], LABELS[:30], PIXELS[30:], LABELS[30:]), strict=True)))
        case "float":
            write(path, images=PIXELS.astype(np.float32) / 255, labels=LABELS)
        case "bool":
            write(path, images=PIXELS > 100, labels=LABELS)
            expected = (PIXELS > 100) * np.uint8(255)
    arrays = array_file(str(path), test, 0)
    assert arrays.shape == (3, 6, 5) and (len(arrays.train), len(arrays.test)) == (30, 10)
    for examples, start in ((arrays.train, 0), (arrays.test, 30)):
        images, labels, where = examples.__getitems__(torch.arange(len(examples)))
        rows = where if examples.indices is not None else where + start
        assert np.array_equal(images, expected[rows]) and np.array_equal(labels, LABELS[rows])


@pytest.mark.parametrize("form", ["first", "last", "none", "fortran", "float"])
def test_npy_files_are_mapped_where_they_can_be(tmp_path: Path, form: str) -> None:
    path, array, expected = tmp_path / "x.npy", PIXELS, PIXELS
    match form:
        case "last":
            array = np.ascontiguousarray(PIXELS.transpose(0, 2, 3, 1))
        case "none":
            array, expected = PIXELS[:, 0].copy(), PIXELS[:, :1]
        case "fortran":
            array = np.asfortranarray(PIXELS)
        case "float":
            array = PIXELS / 255
    np.save(path, array)
    np.save(tmp_path / "x_labels.npy", LABELS)
    arrays = array_file(str(path), 10, 0)
    assert isinstance(arrays.train.images, MemoryMap) == (form in ("first", "last", "none"))
    images, labels, where = arrays.test.__getitems__(torch.arange(10))
    assert np.array_equal(images, expected[where]) and np.array_equal(labels, LABELS[where])
    assert images.is_contiguous()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": PIXELS}, "holds pictures; needs train_images and test_images, or images"),
        ({"images": PIXELS[0, 0]}, r"images has shape \(6, 5\); needs images of shape \(N, H, W\)"),
        ({"images": PIXELS.astype(np.float32)}, "images holds float32 between 0 and 255; save uint8"),
        ({"images": np.full((4, 6, 5), 0.3)}, "images holds values between the 256 levels"),
        ({"images": np.full((4, 6, 5), np.nan)}, "images holds float64 between nan and nan"),
        ({"images": np.zeros((4, 6, 5), complex)}, "images holds complex128"),
        ({"images": PIXELS, "labels": LABELS[:5]}, r"labels of shape \(5,\).*needs \(40,\) whole numbers"),
        ({"images": PIXELS, "labels": LABELS / 2}, "labels of shape .*float64"),
        ({"images": PIXELS[:0]}, "the data set is empty"),
        ({"images": PIXELS, "test_images": PIXELS}, "holds images, test_images; needs train_images and test_images"),
    ],
)
def test_unusable_arrays_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        array_file(str(write(tmp_path / "x.npz", **arrays)), 0.1, 0)


def test_files_that_are_not_what_they_are_called(tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz", "x.safetensors"):
        for content in (b"", b"<html>", bytes(100)):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DataError, match=f"{tmp_path / name}: not a readable .*; write it anew") as caught:
                array_file(str(tmp_path / name), 0.1, 0)
            assert "\n" not in str(caught.value)
    np.save(tmp_path / "x.npy", np.array([{"pickled": 1}]))
    with pytest.raises(DataError):
        array_file(str(tmp_path / "x.npy"), 0.1, 0)
    np.save(tmp_path / "x.npy", PIXELS)
    (tmp_path / "x_labels.npy").write_bytes(b"junk")
    with pytest.raises(DataError, match=f"{tmp_path / 'x_labels.npy'}: not a readable array of labels"):
        array_file(str(tmp_path / "x.npy"), 0.1, 0)
    np.save(tmp_path / "empty.npy", PIXELS[:0])
    with pytest.raises(DataError, match="empty.npy: the data set is empty"):
        array_file(str(tmp_path / "empty.npy"), 0.1, 0)
    with pytest.raises(ConfigError, match="path=123: must be a path"):
        array_file(123, 0.1, 0)  # type: ignore[arg-type]
    for name, message in (("x.jpg", "must end in .npy"), ("none.npy", "is not a file")):
        with pytest.raises(ConfigError, match=message):
            array_file(str(tmp_path / name), 0.1, 0)


def test_the_digest_of_a_large_file_is_remembered_until_it_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nelbo.data.sets import files

    monkeypatch.setattr(files, "SLOW_TO_HASH", 100)
    np.save(tmp_path / "x.npy", PIXELS)
    first = array_file(str(tmp_path / "x.npy"), 10, 0).sha256()
    (known,) = (path for path in (cache / "arrays").iterdir() if path.name != ".lock")
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    known.write_text("what was remembered")
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() != first
    np.save(tmp_path / "x.npy", PIXELS)
    os.utime(tmp_path / "x.npy", (1, 1))
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    np.save(tmp_path / "x.npy", 255 - PIXELS)
    os.utime(tmp_path / "x.npy", (1, 1))  # as what unpacks archives does: same size, same time, another content
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() != first
    np.save(tmp_path / "x.npy", PIXELS)
    shutil.rmtree(cache)
    cache.write_text("where nothing can be remembered")
    with caplog.at_level("WARNING"):
        assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    assert "will be hashed again" in caplog.text


def test_arrays_train_without_being_told_their_shape(tmp_path: Path, train: Train) -> None:
    np.save(tmp_path / "x.npy", RANDOM.integers(0, 256, (1500, 12, 10, 3), dtype=np.uint8))
    done = train("model=mlp_vae", "data=arrays", f"data.path={tmp_path / 'x.npy'}", "trainer=smoke")
    assert done.returncode == 0, done.stderr
    assert "shape:\n  - 3\n  - 12\n  - 10" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.safetensors", images=PIXELS)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match="x.safetensors: needs a package: pip install safetensors"):
        array_file(str(path), 0.1, 0)
