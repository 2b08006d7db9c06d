"""The data set `data=image_folder`: folders of pictures in the forms that users have."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nelbo.data import Arrays, image_folder
from nelbo.data.memory_map import MemoryMap
from nelbo.data.sets.names import TEST, TRAIN, VALIDATION, split_folders
from nelbo.data.sets.pictures import to_picture
from nelbo.data.store import damage, stores
from nelbo.errors import ConfigError, DataError
from tests.helpers.forks import Train
from tests.helpers.pictures import RANDOM, folder, picture

pytestmark = pytest.mark.usefixtures("cache")


def read(home: Path, **changes: object) -> Arrays:
    options = {"root": str(home), "image_size": 16, "channels": 3, "max_megapixels": 90, "test_size": 0.25, "seed": 0}
    return image_folder(**{**options, **changes})  # type: ignore[arg-type]


def test_pictures_of_any_size_are_converted_to_one_memory_map(tmp_path: Path, cache: Path) -> None:
    arrays = read(folder(tmp_path / "pets"))
    assert arrays.shape == (3, 16, 16) and arrays.classes == ("cat", "dog")
    assert len(arrays.train) == 9 and len(arrays.test) == 3
    assert isinstance(arrays.train.images, MemoryMap)
    images, labels, rows, _ = arrays.train.__getitems__(torch.arange(9))
    assert images.shape == (9, 3, 16, 16) and images.dtype == torch.uint8
    # Files are in the order of their paths: six cats, then six dogs.
    assert torch.equal(labels, (rows >= 6).long())
    assert sorted([*rows.tolist(), *arrays.test.indices.tolist()]) == list(range(12))
    other = read(tmp_path / "pets", seed=1)
    assert not torch.equal(other.test.indices, arrays.test.indices) and other.sha256() != arrays.sha256()
    assert len(list((cache / "image_folder").glob("pets-*"))) == 1


def test_the_name_of_a_folder_may_have_the_maximum_length(tmp_path: Path) -> None:
    """The name takes 254 bytes; the name of the store in the cache has a fingerprint besides."""
    assert len(read(folder(tmp_path / ("ä" * 127))).train) == 9


def test_pixels_are_those_of_the_picture(tmp_path: Path) -> None:
    """A picture of the right size is unchanged, a wide one is cropped about its centre, a rotated one is upright."""
    exact = RANDOM.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 16:32] = exact
    (tmp_path / "p").mkdir()
    for name, array in (("a.png", exact), ("b.png", wide), ("d.bmp", exact)):
        Image.fromarray(array).save(tmp_path / "p" / name)
    rotated = Image.fromarray(np.rot90(exact, 1).copy())
    exif = Image.Exif()
    exif[274] = 6  # orientation: must be rotated by 90 degrees clockwise
    rotated.save(tmp_path / "p" / "c.png", exif=exif)
    Image.fromarray(np.dstack([exact, np.full((16, 16), 255, np.uint8)])).save(tmp_path / "p" / "e.png")
    images, labels, _, _ = read(tmp_path / "p", test_size=1).train.__getitems__(torch.arange(4))
    for image in images:
        assert np.array_equal(image.permute(1, 2, 0), exact)
    assert labels.tolist() == [-1] * 4


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    (tmp_path / "p").mkdir()
    for name in "ab":
        Image.fromarray(grey).save(tmp_path / "p" / f"{name}.png")
    images, _, _, _ = read(tmp_path / "p", channels=1, test_size=1).train.__getitems__(torch.arange(1))
    assert np.array_equal(images[0, 0], grey >> 8)


@pytest.mark.parametrize(
    "names",
    [
        *("train test", "Train Test", "TRAINING TESTING", "train_set test_set", "train_images test_images"),
        *(
            "training_set test_set",
            "seg_train seg_test",
            "trainset testset",
            "TrainData test-images",
            "train2017 test2017",
        ),
    ],
)
def test_folders_with_usual_names_are_splits(tmp_path: Path, names: str) -> None:
    train, test = names.split()
    folder(tmp_path / "p" / train, 6)
    folder(tmp_path / "p" / test, 4)
    arrays = read(tmp_path / "p")
    assert (len(arrays.train), len(arrays.test)) == (6, 4) and arrays.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("seg_train seg_test", {TRAIN: "seg_train", TEST: "seg_test"}),
        ("train_set valid_set test_set", {TRAIN: "train_set", VALIDATION: "valid_set", TEST: "test_set"}),
        ("train test val_images", {TRAIN: "train", VALIDATION: "val_images", TEST: "test"}),
        ("train test train_images", {TRAIN: "train", TEST: "test"}),
        ("train_images train_masks test_images test_masks", {TRAIN: "train_images", TEST: "test_images"}),
        ("train_images", {TRAIN: "train_images"}),
        ("test_set cat dog", {TEST: "test_set"}),  # image_folder refuses it, because there are no training images
        ("trainA trainB testA testB", "it is ambiguous which of trainA, trainB, testA, testB is for training"),
        ("trainA trainB testA testB notes", "; rename them to train and test"),
        ("seg_train seg_test seg_train_2", "it is ambiguous which of seg_train, seg_test, seg_train_2 is"),
        ("train_a test_b", "it is ambiguous which of train_a, test_b is"),
        ("train_set train_images test_set", "train_set and train_images are both train; remove or rename"),
        ("beaker test_tube", {}),
        ("test_strip test_tube", {}),
        ("airport test_track train_station", {}),
        ("plane training_shoe", {}),
        ("control_images test_images", {}),
        ("invalid_images valid_images", {}),
        ("test1 test2 test3", {}),
        ("contest devices latest trainer", {}),
        ("train_test_split", {}),
    ],
)
def test_folders_are_recognised_as_splits_and_not_confused_with_classes(
    names: str, expected: dict[str, str] | str
) -> None:
    if isinstance(expected, dict):
        assert split_folders(names.split(), "home") == expected
    else:
        with pytest.raises(DataError, match=f"home: .*{expected}|home: {expected}"):
            split_folders(names.split(), "home")


def test_a_class_may_have_the_word_of_a_split_in_its_name(tmp_path: Path) -> None:
    for name in ("beaker", "test_tube"):
        picture(tmp_path / "p" / name / "a.png")
    assert read(tmp_path / "p").classes == ("beaker", "test_tube")


def test_splits_in_a_folder_below_the_root_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder(tmp_path / "p" / "data" / split, 4)
    (tmp_path / "p" / "notes").mkdir()  # without pictures
    home = tmp_path / "p" / "data"
    message = f"its folder data holds the splits train, test; set data.root={home}$"
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path / "p")
    assert caught.value.key == "root"
    shutil.rmtree(tmp_path / "p" / "notes")
    (tmp_path / "q").mkdir()
    shutil.move(tmp_path / "p", tmp_path / "q" / "p")
    message = f"p/data holds the splits train, test; set data.root={tmp_path / 'q/p/data'}$"
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "q")
    assert len(read(tmp_path / "q" / "p" / "data").train) == 4
    for name in ("cat", "dog"):
        for split in ("train_set", "test_set"):
            picture(tmp_path / "r" / name / split / "a.png")
    with pytest.raises(DataError, match="its folder cat holds .*; put splits above classes, as in train_set/cat, or"):
        read(tmp_path / "r")


def test_splits_may_have_different_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A class has the same label in both splits; a class without training images is allowed with a warning."""
    folder(tmp_path / "p" / "train", 6)
    picture(tmp_path / "p" / "test" / "dog" / "x.png")
    arrays = read(tmp_path / "p")
    assert arrays.classes == ("cat", "dog") and arrays.test.labels.tolist() == [1] and not caplog.messages
    picture(tmp_path / "p" / "test" / "cow" / "x.png")
    arrays = read(tmp_path / "p")
    assert arrays.classes == ("cat", "cow", "dog") and arrays.test.labels.tolist() == [1, 2]
    assert sorted(set(arrays.train.labels.tolist())) == [0, 2]
    assert caplog.messages == [f"{tmp_path / 'p'}: no training pictures of cow"]


def test_the_store_is_created_once_and_again_when_the_folder_changes(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "pets")
    before = read(root).sha256()
    (store,) = cache.glob("image_folder/pets-*")
    written = store.stat().st_mtime_ns
    opened = read(root)
    assert opened.sha256() == before and store.stat().st_mtime_ns == written
    picture(root / "cat" / "new.png")
    assert len(read(root).train) == 10 and not store.exists()
    assert len(list((cache / "image_folder").iterdir())) == 2  # the new store and the lock
    assert opened.train.__getitems__(torch.arange(9))[0].any()  # a removed store that is open can still be read
    read(root, image_size=8)
    assert len(list((cache / "image_folder").glob("pets-*"))) == 2


def test_modification_times_do_not_identify_pictures(tmp_path: Path) -> None:
    """Other times give the same data set, and a picture that is replaced under the same time and size is noticed."""
    root = folder(tmp_path / "pets", mode="L")
    for file in root.rglob("*.png"):
        Image.fromarray(RANDOM.integers(0, 256, (9, 9), dtype=np.uint8)).save(file.with_suffix(".bmp"))  # equal sizes
        file.unlink()
    first = read(root).sha256()
    for seconds in (0, 10**10):
        for file in root.rglob("*.bmp"):
            os.utime(file, (seconds, seconds))
        assert read(root).sha256() == first
    shutil.copyfile(root / "cat" / "000.bmp", root / "cat" / "002.bmp")
    os.utime(root / "cat" / "002.bmp", (10**10, 10**10))
    assert read(root).sha256() != first


def test_a_truncated_picture_is_named_and_no_store_is_created(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "pets", 20)
    damaged = root / "dog" / "007.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"1 of 20 pictures cannot be read: dog/007.png \(.*\); repair or remove them"):
        read(root)
    assert not list(cache.glob("image_folder/*/images.bin")) and not list(cache.glob("image_folder/.fetching*"))
    for index in range(0, 20, 2):
        (root / "cat" / f"{index:03d}.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="11 of 20 .* and 8 more"):
        read(root)
    damaged.unlink()
    shutil.rmtree(root / "cat")
    assert len(read(root).train) == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "/nowhere"}, "root=/nowhere: is not a folder of pictures"),
        ({"root": "~unknown-user/x"}, "root=~unknown-user/x: is not a folder"),
        ({"root": None}, "root=null: must be a path"),
        ({"root": 2024}, "root=2024: must be a path"),
        ({"test_size": 0}, "test_size=0: must leave at least one of the 12 images to test on"),
        ({"image_size": 0}, "image_size=0"),
        ({"image_size": [8, 0]}, r"image_size\[1\]=0"),
        ({"image_size": [8]}, r"image_size=\[8\]: must be one number, or \[height, width\]"),
        ({"channels": 2}, r"channels=2: must be 1 \(grey\) or 3"),
        ({"max_megapixels": 0}, "max_megapixels=0: must be a finite number above 0"),
        ({"test_size": 12}, "test_size=12: must leave some of the 12"),
        ({"test_size": -1}, "test_size=-1"),
    ],
)
def test_invalid_options_are_refused_with_their_key(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(folder(tmp_path / "pets"), **changes)


@pytest.mark.parametrize("name", ["val", "test"])
def test_an_empty_folder_of_a_split_is_refused_with_a_hint(tmp_path: Path, name: str) -> None:
    folder(tmp_path / "p" / "train", 4)
    (tmp_path / "p" / name).mkdir()
    with pytest.raises(DataError, match=rf"p/{name}: holds no pictures \(.*\); remove it, or add pictures$"):
        read(tmp_path / "p")


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev"])
def test_a_folder_for_validation_is_the_validation_set(tmp_path: Path, name: str) -> None:
    for split, count in (("train", 6), (name, 4), ("test", 2)):
        folder(tmp_path / "p" / split, count)
    arrays = read(tmp_path / "p")
    assert (len(arrays.train), arrays.validation, len(arrays.test)) == (10, 4, 2) and arrays.classes == ("cat", "dog")
    _, labels, _, _ = arrays.train.__getitems__(torch.arange(10))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    shutil.rmtree(tmp_path / "p" / "test")  # now test images are drawn from the training images
    arrays = read(tmp_path / "p", test_size=2)
    assert (len(arrays.train), arrays.validation, len(arrays.test)) == (8, 4, 2)
    assert arrays.train.indices is not None and arrays.train.indices[4:].tolist() == [6, 7, 8, 9]


def test_other_folders_beside_splits_are_named_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("Train", "Test", "extra"):
        folder(tmp_path / "p" / name, 4)
    picture(tmp_path / "p" / "cover.png")
    (tmp_path / "p" / "notes").mkdir()
    assert len(read(tmp_path / "p").train) == 4
    assert caplog.messages == [f"{tmp_path / 'p'}: pictures that are not used: cover.png (1), extra (4)"]
    shutil.rmtree(tmp_path / "p" / "Test")
    with pytest.raises(DataError, match=r"has Train, cover.png, extra; needs train and test \(val is optional\), or"):
        read(tmp_path / "p")  # it is ambiguous whether Train is a split or a class
    folder(tmp_path / "q" / "valid", 4)
    with pytest.raises(DataError, match="has valid; needs train and test"):
        read(tmp_path / "q")
    for name in ("train", "val"):
        folder(tmp_path / "q" / name, 4)
    with pytest.raises(DataError, match="val and valid are both validation; remove or rename one of them"):
        read(tmp_path / "q")


def test_max_megapixels_limits_the_size_of_a_picture(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "a.png", (40, 30))
    picture(tmp_path / "p" / "large.png", (1500, 1000))
    before = Image.MAX_IMAGE_PIXELS
    for limit, size in (
        (1, "2 megapixels, more than data.max_megapixels=1"),
        (0.5, "more than data.max_megapixels=0.5"),
    ):
        with pytest.raises(DataError, match=rf"1 of 2 pictures cannot be read: large.png \(.*{size}\)"):
            read(tmp_path / "p", max_megapixels=limit)
    assert len(read(tmp_path / "p", max_megapixels=1.5).train) == 1
    picture(tmp_path / "huge" / "b.png")
    Image.new("1", (9600, 9400)).save(tmp_path / "huge" / "a.png")  # above Pillow's own limit
    with pytest.raises(DataError, match="90 megapixels, more than data.max_megapixels=90"):
        read(tmp_path / "huge", channels=1)
    assert len(read(tmp_path / "huge", channels=1, max_megapixels=100).train) == 1
    assert before == Image.MAX_IMAGE_PIXELS  # the limit is restored for other users of Pillow


def test_links_are_followed_and_broken_links_are_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "pets")
    (root / "loop").symlink_to(root / "loop")
    (root / "cat").rename(tmp_path / "elsewhere")
    (root / "cat").symlink_to(tmp_path / "elsewhere")
    (root / "dog" / "round").symlink_to(root)
    assert len(read(root).train) + len(read(root).test) == 12
    (root / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"1 of 13 pictures cannot be read: dog/gone.png \(.*No such file"):
        read(root)


def test_only_the_formats_of_pictures_are_opened(tmp_path: Path) -> None:
    """Pillow also opens data files and, for PostScript, starts another program."""
    root = folder(tmp_path / "pets")
    for name in ("x.h5", "x.mpg", "x.eps", "x.ps", "x.pdf"):
        (root / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    (root / "y.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match=r"1 of 13 pictures cannot be read: y.png \(cannot identify"):
        read(root)


def test_transparent_pixels_become_white() -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 0], pixels[:8, :, 3] = 200, 255
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([0, 200, 0, 9, 9, 9])
    palette.paste(1, (0, 0, 16, 8))
    palette.info["transparency"] = 0
    for source, top in ((Image.fromarray(pixels), [200, 0, 0]), (palette, [9, 9, 9])):
        image = to_picture(source, 16, 3).pixels
        assert image[:, 0, 0].tolist() == top and image[:, 15, 15].tolist() == [255, 255, 255]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p" / ".hidden").mkdir(parents=True)
    picture(tmp_path / "p" / ".hidden" / "x.png")
    (tmp_path / "p" / "readme.txt").write_text("none")
    with pytest.raises(DataError, match="holds no pictures"):
        read(tmp_path / "p")


def test_a_damaged_store_is_refused(tmp_path: Path, cache: Path) -> None:
    root = folder(tmp_path / "pets")
    read(root)
    (store,) = (path.parent for path in cache.glob("image_folder/*/manifest.json"))
    content = (store / "images.bin").read_bytes()
    (store / "images.bin").write_bytes(content[:-1])
    assert f"{len(content) - 1} bytes where {len(content)}" in damage(store)
    with pytest.raises(DataError, match=f"{store / 'images.bin'}: {len(content) - 1} bytes where {len(content)}"):
        read(root)
    (store / "images.bin").unlink()
    with pytest.raises(DataError, match=f"{store / 'images.bin'}: cannot be read"):
        read(root)
    (store / "images.bin").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "its SHA-256 is" in damage(store)
    (store / "images.bin").write_bytes(content)
    assert not damage(store) and stores() == [store]
    for name, content in (("labels.npy", b"\x93NUMPY"), ("manifest.json", b"{"), ("manifest.json", b"[]")):
        good = (store / name).read_bytes()
        (store / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{store / name}: not a readable .*; delete {store}"):
            read(root)
        (store / name).write_bytes(good)
    read(root)


def test_too_little_disk_space_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "pets")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 100))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="needs 9,216 bytes of disk space, but only 100 are free"):
        read(root)


def test_pictures_become_rectangles_of_the_size_asked_for(tmp_path: Path, train: Train) -> None:
    root = folder(tmp_path / "pets", 60)
    wide = read(root, image_size=[8, 16])
    assert wide.shape == (3, 8, 16) and read(root, image_size=[16, 16]).sha256() == read(root, image_size=16).sha256()
    images, _, positions, _ = wide.train.__getitems__(torch.arange(3))
    files = sorted(root.rglob("*.png"))
    for image, position in zip(images, positions.tolist(), strict=True):
        with Image.open(files[position]) as source:
            fitted = ImageOps.fit(source.convert("RGB"), (16, 8), Image.Resampling.LANCZOS)
        assert np.array_equal(image, np.asarray(fitted).transpose(2, 0, 1))
    command = ["model=mlp_vae", "data=image_folder", f"data.root={root}", "data.levels=256", "trainer=smoke"]
    done = train(*command, "data.image_size=[8,16]", NELBO_DATA=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "shape:\n  - 3\n  - 8\n  - 16" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_run_trains_on_a_folder_and_refuses_a_truncated_picture(tmp_path: Path, train: Train) -> None:
    root = folder(tmp_path / "pets", 500)
    command = ["model=conv_vae", "data=image_folder", f"data.root={root}", "data.image_size=32", "trainer=smoke"]
    done = train(*command, NELBO_DATA=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["train_images"], metrics["val_images"], metrics["test_images"]) == (405, 45, 50)
    assert metrics["test/bits_per_dim"] > 0 and metrics["data"] == "image_folder"
    damaged = root / "cat" / "100.png"
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    shutil.rmtree(tmp_path / "run")
    done = train(*command, NELBO_DATA=str(tmp_path / "cache"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "1 of 500 pictures cannot be read: cat/100.png" in done.stderr and "repair or remove" in done.stderr
