"""The data set `data=arrays`: files of arrays in the forms that users have."""

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
from tests.helpers.forks import Train
from tests.helpers.image_data import make
from tests.helpers.pictures import RANDOM

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
def test_files_of_arrays_in_every_layout_are_read(tmp_path: Path, suffix: str, form: str) -> None:
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
        images, labels, positions, _ = examples.__getitems__(torch.arange(len(examples)))
        rows = positions if examples.indices is not None else positions + start
        assert np.array_equal(images, expected[rows]) and np.array_equal(labels, LABELS[rows])


@pytest.mark.parametrize("form", ["first", "last", "none", "fortran", "float"])
def test_npy_files_of_bytes_in_c_order_are_memory_mapped(tmp_path: Path, form: str) -> None:
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
    images, labels, positions, _ = arrays.test.__getitems__(torch.arange(10))
    assert np.array_equal(images, expected[positions]) and np.array_equal(labels, LABELS[positions])
    assert images.is_contiguous()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"pictures": PIXELS},
            "holds pictures; needs train_images and test_images .val_images is optional., or images",
        ),
        ({"images": PIXELS[0, 0, 0]}, r"images has shape \(5,\); needs images of shape \(N, H, W\)"),
        ({"images": PIXELS[None]}, r"images has shape \(1, 40, 3, 6, 5\); needs images of shape \(N, H, W\)"),
        ({"images": PIXELS[:, :, :0]}, r"images has shape \(40, 3, 0, 5\); needs images of shape \(N, H, W\)"),
        (
            {"images": np.full((4, 6, 5), np.nan)},
            r"NaN or infinity in 4 of 4 examples, the first at \[0, 0, 0\]; replace",
        ),
        ({"images": np.full((4, 6, 5), 1e300)}, r"images as float32 holds NaN or infinity in 4 of 4 examples"),
        (
            {"x_train": PIXELS, "x_test": PIXELS / 7},
            "x_train holds uint8, and x_test floats; save both as pixels of 8 bits",
        ),
        ({"images": np.zeros((4, 6, 5), complex)}, "images holds complex128; save uint8 pixels from 0 to 255"),
        ({"images": PIXELS, "labels": LABELS[:5]}, r"labels of shape \(5,\) for 40 images; needs one per image"),
        ({"images": PIXELS, "labels": np.array(3)}, r"labels of shape \(\) for 40 images; needs one per image"),
        ({"images": PIXELS[:0]}, "the data set is empty"),
        ({"images": PIXELS, "test_images": PIXELS}, "holds images, test_images; needs train_images and test_images"),
        ({"x_test": PIXELS, "x_val": PIXELS}, "holds x_test, x_val; needs train_images and test_images"),
        (
            {"x_train": PIXELS, "train_images": PIXELS},
            "x_train and train_images are both train images; remove or rename",
        ),
        (
            {"x_train": PIXELS, "x_val": PIXELS[:, :1]},
            r"training images have shape \(3, 6, 5\), validation images \(1,",
        ),
    ],
)
def test_invalid_arrays_are_refused_with_their_name(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        array_file(str(write(tmp_path / "x.npz", **arrays)), 0.1, 0)


TRAINING, VALIDATION, TESTING = slice(0, 24), slice(24, 30), slice(30, 40)


@pytest.mark.parametrize(
    "names",
    [
        "train_images train_labels val_images val_labels test_images test_labels",  # as in MedMNIST
        "x_train y_train x_val y_val x_test y_test",
        "X_train Y_train X_valid Y_valid X_test Y_test",
        "trainImages trainLabels validationImages validationLabels testImages testLabels",
        "images-training targets-training images-dev targets-dev images-testing targets-testing",
        "Xtrain ytrain Xval yval Xtest ytest",
        "Train train_y Valid valid_y TEST test_y",
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_usual_names_of_splits_are_recognised_and_a_validation_split_is_used(
    tmp_path: Path, suffix: str, names: str
) -> None:
    contents = [array[part] for part in (TRAINING, VALIDATION, TESTING) for array in (PIXELS, LABELS)]
    path = write(tmp_path / f"x{suffix}", **dict(zip(names.split(), contents, strict=True)))
    for size in (0.1, 6):  # any share selects the published validation images, so no training images are held out
        data = make(source=lambda: array_file(str(path), 0.1, 0), shape=None, validation_size=size)
        data.setup()
        for split, part in (("train", TRAINING), ("val", VALIDATION), ("test", TESTING)):
            examples = data.splits[split]
            images, labels, _, _ = examples.__getitems__(torch.arange(len(examples)))
            assert np.array_equal(images, PIXELS[part]) and np.array_equal(labels, LABELS[part]), split


def test_test_images_are_not_drawn_from_a_published_validation_set(tmp_path: Path) -> None:
    arrays = array_file(str(write(tmp_path / "x.npz", x_train=PIXELS[TRAINING], x_val=PIXELS[VALIDATION])), 4, 0)
    assert (len(arrays.train), arrays.validation, len(arrays.test)) == (26, 6, 4)
    images, _, rows, _ = arrays.train.__getitems__(torch.arange(26))
    assert np.array_equal(images[20:], PIXELS[VALIDATION])
    assert sorted([*rows[:20].tolist(), *arrays.test.indices.tolist()]) == list(range(24))  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_empty_arrays_are_named_in_the_message(tmp_path: Path, dtype: type, caplog: pytest.LogCaptureFixture) -> None:
    path, empty = tmp_path / "x.npz", PIXELS[:0].astype(dtype)
    write(path, train_images=PIXELS, train_labels=LABELS, val_images=empty, val_labels=LABELS[:0])
    arrays = array_file(str(path), 0.25, 0)
    assert (len(arrays.train), arrays.validation, len(arrays.test)) == (30, 0, 10)
    assert caplog.messages == [f"{path}: val_images holds no images, so it is not used"]
    write(path, train_images=PIXELS, test_images=empty)
    with pytest.raises(DataError, match=f"^{path}: test_images holds no images to test on; add some, or remove"):
        array_file(str(path), 0.25, 0)
    write(path, train_images=empty, test_images=PIXELS)
    with pytest.raises(DataError, match=f"^{path}: the data set is empty: train_images holds no images"):
        array_file(str(path), 0.25, 0)


def test_unused_arrays_are_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = {"targets": LABELS, "y_val": LABELS, "latents_values": LABELS, "étiquettes": LABELS, "x_train_old": PIXELS}
    path = write(tmp_path / "x.npz", images=PIXELS, labels=LABELS, **more)
    array_file(str(path), 0.1, 0)
    assert caplog.messages == [f"{path}: arrays that are not used: {', '.join(more)}"]


WORDS = np.array(["cat", "dog", "emu"])
LABELLED: dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]] = {
    "one-hot": (np.eye(7)[LABELS], LABELS, ()),
    "one-hot, bool": (np.eye(7, dtype=bool)[LABELS], LABELS, ()),
    "a column": (LABELS[:, None, None], LABELS, ()),
    "whole floats": (LABELS.astype(np.float32), LABELS, ()),
    "true or false": (LABELS > 2, (LABELS > 2).astype(int), ()),
    "text": (WORDS[LABELS % 3], LABELS % 3, ("cat", "dog", "emu")),
    "bytes": (WORDS[LABELS % 3].astype("S3"), LABELS % 3, ("cat", "dog", "emu")),
}
NOT_CLASSES: dict[str, tuple[np.ndarray, str]] = {
    "several per image": (RANDOM.integers(0, 2, (40, 14)), r"labels of shape (40, 14) are not one class per image"),
    "real numbers": (LABELS / 2, "labels of shape (40,) are not whole numbers"),
    "missing": (np.where(LABELS > 2, np.nan, LABELS), "labels of shape (40,) are not whole numbers"),
    "captions": (np.array([f"picture {index}" for index in range(40)]), "are 40 different texts for 40 images"),
    "pickled objects": (
        WORDS[LABELS % 3].astype(object),
        "labels are pickled objects, which are not read; save them as",
    ),
    "dates": (LABELS.astype("M8[s]"), "labels of shape (40,) and type datetime64[s] are not numbers"),
    "too large": (np.full(40, 2**64 - 1, np.uint64), "labels of shape (40,) are too large"),
}


@pytest.mark.parametrize("case", LABELLED)
def test_labels_in_common_forms_become_classes(tmp_path: Path, case: str) -> None:
    stored, expected, names = LABELLED[case]
    x = write(tmp_path / "x.npz", x_train=PIXELS[:30], y_train=stored[:30], x_test=PIXELS[30:], y_test=stored[30:])
    arrays = array_file(str(x), 0.1, 0)
    assert arrays.train.labels.dtype == torch.int64 and arrays.classes == names
    assert np.array_equal(torch.cat([arrays.train.labels, arrays.test.labels]), expected)
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "x_labels.npy", stored)
    arrays = array_file(str(tmp_path / "x.npy"), 0.1, 0)
    assert np.array_equal(arrays.train.labels, expected) and arrays.classes == names


@pytest.mark.parametrize("case", NOT_CLASSES)
def test_labels_that_are_not_classes_are_dropped_with_one_warning(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    stored, message = NOT_CLASSES[case]
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=stored)
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "x_labels.npy", stored)
    for name in ("x.npz", "x.npy"):
        caplog.clear()
        arrays = array_file(str(tmp_path / name), 0.1, 0)
        assert len(arrays.train) == 36 and (arrays.train.labels == -1).all() and arrays.classes == ()
        (line,) = caplog.messages
        without_labels = "the images are used without labels; what needs labels is left out: probe, knn, silhouette"
        assert message in line and without_labels in line


def test_test_images_may_lack_some_classes_or_all_labels(tmp_path: Path) -> None:
    x = write(tmp_path / "x.npz", x_train=PIXELS[:30], y_train=LABELS[:30], x_test=PIXELS[30:], y_test=LABELS[30:] * 0)
    assert set(array_file(str(x), 0.1, 0).test.labels.tolist()) == {0}
    x = write(tmp_path / "x.npz", x_train=PIXELS[:30], y_train=LABELS[:30], x_test=PIXELS[30:])
    arrays = array_file(str(x), 0.1, 0)
    assert np.array_equal(arrays.train.labels, LABELS[:30]) and set(arrays.test.labels.tolist()) == {-1}


def test_files_that_are_not_in_the_format_of_their_suffix_are_refused(tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz", "x.safetensors"):
        for content in (b"", b"<html>", bytes(100)):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DataError, match=f"{tmp_path / name}: not a readable .*; save it again") as caught:
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


def test_the_digest_of_a_large_file_is_stored_until_the_file_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nelbo.data.sets import files

    monkeypatch.setattr(files, "SLOW_TO_HASH", 100)
    np.save(tmp_path / "x.npy", PIXELS)
    first = array_file(str(tmp_path / "x.npy"), 10, 0).sha256()
    (stored,) = (path for path in (cache / "arrays").iterdir() if path.name != ".lock")
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    stored.write_text("another digest, to see that it is used")
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() != first
    np.save(tmp_path / "x.npy", PIXELS)
    os.utime(tmp_path / "x.npy", (1, 1))
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    np.save(tmp_path / "x.npy", 255 - PIXELS)
    os.utime(tmp_path / "x.npy", (1, 1))  # as programs that unpack archives do: same size and time, other content
    assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() != first
    np.save(tmp_path / "x.npy", PIXELS)
    shutil.rmtree(cache)
    cache.write_text("a file, so that nothing can be stored")
    with caplog.at_level("WARNING"):
        assert array_file(str(tmp_path / "x.npy"), 10, 0).sha256() == first
    assert "will be hashed again" in caplog.text


def test_a_run_takes_the_shape_of_images_from_the_file(tmp_path: Path, train: Train) -> None:
    np.save(tmp_path / "x.npy", RANDOM.integers(0, 256, (1500, 12, 10, 3), dtype=np.uint8))
    done = train("model=mlp_vae", "data=arrays", f"data.path={tmp_path / 'x.npy'}", "trainer=smoke")
    assert done.returncode == 0, done.stderr
    assert "shape:\n  - 3\n  - 12\n  - 10" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_missing_package_is_named_in_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.safetensors", images=PIXELS)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ConfigError, match="x.safetensors: needs a package: pip install safetensors"):
        array_file(str(path), 0.1, 0)
