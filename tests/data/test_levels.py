"""The scale of stored pixel values: which value is white, for every dtype and every kind of data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nelbo.data import Arrays, array_file, huggingface, image_folder
from nelbo.data.arrays import Examples
from nelbo.data.memory_map import MemoryMap
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError, DataError
from tests.helpers.forks import Train, forked
from tests.helpers.image_data import make
from tests.helpers.pictures import RANDOM, png16

pytestmark = pytest.mark.usefixtures("cache")
BITS = RANDOM.integers(0, 2, (40, 12, 12), dtype=np.uint8)
PICTURES: dict[str, Any] = {"image_size": 12, "channels": 1, "max_megapixels": 90, "test_size": 10, "seed": 0}


def ready(source: Callable[[], Arrays], **changes: object) -> ImageData:
    data = make(source=source, shape=None, validation_size=0, **changes)
    data.setup()
    return data


def pixels(data: ImageData) -> Tensor:
    """Return the training images as model input, in the order in which they are stored."""
    examples = data.splits["train"]
    return data.present("train", examples.__getitems__(torch.arange(len(examples))))[0]


def stored(kind: str, values: np.ndarray, home: Path) -> Callable[[], Arrays]:
    """Save pixel values in one of the supported forms, and return the function that reads them."""
    if kind in ("folder", "hub"):
        for index, image in enumerate(values):
            file = home / "set" / "train" / f"{index:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
        if kind == "folder":
            return lambda: image_folder(root=str(home / "set" / "train"), **PICTURES)
        return lambda: huggingface(name=str(home / "set"), split=None, streaming=False, **PICTURES)
    if kind == "function":
        return lambda: Arrays(*(Examples(torch.from_numpy(values)[:, None], torch.zeros(40)),) * 2)
    path = home / ("x.npz" if kind.startswith("npz") else "x.npy")
    array = values.astype(kind.rpartition(" ")[2])
    np.savez(path, images=array) if path.suffix == ".npz" else np.save(path, array)
    return lambda: array_file(str(path), 10, 0)


KINDS = ("npy uint8", "npz uint8", "npy int64", "npz int32", "npy uint16", "folder", "hub", "function")


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_ones_need_levels_and_are_then_black_and_white(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "hub":
        monkeypatch.setattr(pytest.importorskip("datasets").config, "HF_DATASETS_CACHE", tmp_path / "hub")
    source = stored(kind, BITS, tmp_path)
    for levels in (None, 256):  # 256 is refused too, because images of 0 and 1 of 255 would be almost black
        with pytest.raises(ConfigError) as caught:
            ready(source, levels=levels)
        problem = "no pixel is brighter than 1 of 255; set data.levels=2 if 1 is white"
        assert str(caught.value) == f"levels={levels or 'null'}: {problem}"
    data = ready(source, levels=2)
    indices = data.splits["train"].indices
    expected = BITS if indices is None else BITS[indices]
    assert torch.equal(pixels(data), torch.from_numpy(expected)[:, None].float())


def test_booleans_and_0_to_255_need_no_levels(tmp_path: Path) -> None:
    np.save(tmp_path / "bool.npy", BITS == 1)
    np.save(tmp_path / "bytes.npy", BITS * np.uint8(255))
    data_modules = [
        ready(lambda name=name: array_file(str(tmp_path / f"{name}.npy"), 10, 0), levels=levels)
        for name in ("bool", "bytes")
        for levels in (None, 2)
    ]
    assert [data.levels for data in data_modules] == [256, 2, 256, 2]
    first = pixels(data_modules[0])
    assert all(torch.equal(pixels(data), first) for data in data_modules) and first.max() == 1


@pytest.mark.parametrize("kind", ["npy uint8", "npz int64"])
def test_values_up_to_sixteen_need_levels_and_the_hint_gives_both_choices(kind: str, tmp_path: Path) -> None:
    values = RANDOM.integers(0, 17, (40, 6, 6), dtype=np.uint8)
    source = stored(kind, values, tmp_path)
    both = "no pixel is brighter than 16 of 255; set data.levels=17 if 16 is white, or data.levels=256 if white is 255"
    with pytest.raises(ConfigError, match=both):
        ready(source, levels=None)
    with pytest.raises(ConfigError, match=f"levels=2: {both}"):
        ready(source, levels=2)
    bright, dark = ready(source, levels=17), ready(source, levels=256)
    expected = torch.from_numpy(values[bright.splits["train"].indices])[:, None].float()
    assert (pixels(bright) - expected / 16).abs().max() <= 0.5 / 255 + 1e-6  # sixteenths are rounded to 8 bits
    assert torch.equal(pixels(dark), expected * (1 / 255))
    assert bright.sha256 != dark.sha256


def test_levels_of_a_memory_map_are_spread_in_worker_processes_too(tmp_path: Path) -> None:
    data = ready(stored("npy uint8", BITS, tmp_path), levels=2, num_workers=1)
    assert isinstance(data.splits["train"].images, MemoryMap)
    values = torch.cat([images for images, *_ in data.train_dataloader()])
    assert values.unique().tolist() == [0, 255]


def test_grey_images_are_not_spread_before_they_are_binarised(tmp_path: Path) -> None:
    """With two levels and grey images, the protocol produces the levels."""
    greys = RANDOM.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    data = ready(stored("npy uint8", greys, tmp_path), levels=2, protocol="threshold")
    indices = data.splits["train"].indices
    assert torch.equal(pixels(data), torch.from_numpy(greys[indices] >= 128)[:, None].float())


def test_a_data_set_of_a_single_value_is_refused(tmp_path: Path) -> None:
    for value in (0, 1, 255):
        np.save(tmp_path / "x.npy", np.full((40, 6, 6), value, np.uint8))
        for levels in (None, 2, 256):
            with pytest.raises(DataError, match=f"every pixel of every image is {value}, so there is nothing to learn"):
                ready(lambda: array_file(str(tmp_path / "x.npy"), 10, 0), levels=levels)


def test_images_of_a_data_function_must_be_uint8_or_floats() -> None:
    images = torch.randint(0, 256, (40, 1, 4, 4))
    message = "its images are int64; a data function must return uint8, with 255 for white, or floats"
    with pytest.raises(DataError, match=message):
        make(Arrays(Examples(images, torch.zeros(40)), Examples(images, torch.zeros(40)))).setup()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bit_values_in_16_bit_files_are_refused_unless_other_pictures_are_brighter(
    channels: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would become black, because only the upper eight bits are kept.

    If other pictures use all 16 bits, there is only a warning.
    """
    values = RANDOM.integers(0, 256, (12, 12, channels)).astype(np.uint16)
    options = {**PICTURES, "channels": 1 if channels < 3 else 3, "test_size": 1}
    home = tmp_path / "p"
    png16(home / "b.png", values)
    png16(home / "c.png", values)
    for _ in range(2):  # no store is left by the first attempt
        with pytest.raises(DataError) as caught:
            image_folder(root=str(home), **options)
        assert str(caught.value) == (
            f"{home}: 16-bit pictures of one colour in their upper 8 bits: b.png, c.png; "
            "65535 is read as white; save them with 8 bits, or remove them"
        )
    (home / "c.png").unlink()
    png16(home / "a.png", values * 256 + 255)
    png16(home / "c.png", np.full_like(values[..., :1], 7))  # a single grey value, so that nothing is lost
    arrays = image_folder(root=str(home), **options)
    images, _, _, _ = Examples(arrays.train.images, arrays.train.labels).__getitems__(torch.arange(3))
    if channels in (1, 3):
        assert np.array_equal(images[0], values.transpose(2, 0, 1))
    assert caplog.messages == [f"{home}: 16-bit pictures of one colour in their upper 8 bits: b.png"]
    assert ready(lambda: image_folder(root=str(home), **options), levels=None).levels == 256


@pytest.mark.parametrize("kind", ["folder", "hub"])
@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bit_values_in_16_bit_files_are_refused_with_a_hint_that_keeps_eight_bits(
    kind: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is not to set data.levels, which would keep only four bits; 8-bit pictures beside them do not matter."""
    if kind == "hub":
        monkeypatch.setattr(pytest.importorskip("datasets").config, "HF_DATASETS_CACHE", tmp_path / "hub")
    home = tmp_path / "set"
    values = RANDOM.integers(0, 4096, (12, 12, 12, channels)).astype(np.uint16)
    values[0, 0, 0] = 4095
    for index, image in enumerate(values):
        png16(home / "train" / f"{index:03d}.png", image)
    options = {**PICTURES, "channels": channels, "test_size": 2}

    def source() -> Arrays:
        if kind == "hub":
            return huggingface(name=str(home), split=None, streaming=False, **options)
        return image_folder(root=str(home), **options)

    advice = (
        "its training images are 16-bit pictures with no value above 4095, but white is read as 65535; save x >> 4 as"
    )
    for _ in range(2):  # the store is created, then read
        for levels in (None, 16, 2):
            with pytest.raises(DataError) as caught:
                ready(source, levels=levels)
            assert str(caught.value).startswith(f"fake: {advice} 8 bits if 4095 is white, or data.levels=256 if white")
    dark = ready(source, levels=256)
    assert pixels(dark).max().item() == pytest.approx(15 / 255)
    for index in range(4):
        Image.fromarray(RANDOM.integers(0, 256, (12, 12), dtype=np.uint8)).save(home / "train" / f"bright{index}.png")
    with pytest.raises(DataError, match=advice):
        ready(source, levels=None)


def test_a_dark_16_bit_picture_among_bright_ones_is_accepted(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 65536, (12, 12, 12, 1)).astype(np.uint16)
    values[3] >>= 6
    for index, image in enumerate(values):
        png16(tmp_path / "p" / f"{index:03d}.png", image)
    data = ready(lambda: image_folder(root=str(tmp_path / "p"), **{**PICTURES, "test_size": 2}), levels=None)
    indices = data.splits["train"].indices
    expected = torch.from_numpy((values >> 8).astype(np.uint8))[indices].permute(0, 3, 1, 2)
    assert torch.equal(pixels(data), expected.float() * (1 / 255))


GREYS = RANDOM.integers(0, 256, (20, 6, 6), dtype=np.uint8)
BINARY = RANDOM.integers(0, 2, (20, 6, 6), dtype=np.uint8)
MIXED: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "bytes and booleans": ({"x_train": BINARY, "x_test": BINARY == 1}, "training images is brighter than 1"),
    "booleans and bytes": ({"x_train": BINARY == 1, "x_test": BINARY}, "test images is brighter than 1"),
    "1 and 255": ({"x_train": BINARY, "x_test": BINARY * np.uint8(255)}, "training images is brighter than 1"),
    "validation of booleans": ({"x_train": BINARY, "x_val": BINARY == 1}, "training images is brighter than 1"),
    "validation 0 and 1": ({"x_train": GREYS, "x_val": BINARY}, "validation images is brighter than 1"),
    "greys and bits": ({"x_train": GREYS, "x_test": BINARY}, "test images is brighter than 1"),
    "greys and few levels": ({"x_train": GREYS, "x_test": GREYS // 16}, "test images is brighter than 15"),
    "floats and bytes": ({"x_train": GREYS / 255, "x_test": BINARY}, "test images is brighter than 1"),
}


@pytest.mark.parametrize("case", MIXED)
def test_splits_of_different_scales_are_refused(case: str, tmp_path: Path) -> None:
    arrays, message = MIXED[case]
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    for levels in (None, 2, 17):
        with pytest.raises(DataError, match=f"no pixel of its {message} of 255, but its .* images reach 255; save its"):
            ready(lambda: array_file(str(path), 0.25, 0), levels=levels)
    if "15" in message:  # data.levels=256 means that the images are dark
        assert ready(lambda: array_file(str(path), 0.25, 0), levels=256).levels == 256
    else:
        with pytest.raises(DataError, match=r"save its .* as x \* 255 if 1 is white$"):
            ready(lambda: array_file(str(path), 0.25, 0), levels=256)


def test_the_scales_of_training_and_validation_folders_are_compared(tmp_path: Path) -> None:
    """Both splits are in one memory map."""
    for split, values in (("train", GREYS), ("val", BINARY), ("test", GREYS)):
        for index, image in enumerate(values[:6]):
            file = tmp_path / "p" / split / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    with pytest.raises(DataError, match="no pixel of its validation images is brighter than 1 of 255"):
        ready(lambda: image_folder(root=str(tmp_path / "p"), **PICTURES), levels=2)


def test_training_images_of_a_single_value_are_refused(tmp_path: Path) -> None:
    for value in (0, 255):
        np.savez(tmp_path / "x.npz", x_train=np.full((20, 6, 6), value, np.uint8), x_test=GREYS)
        with pytest.raises(DataError, match=f"every pixel of every training image is {value}, so there is nothing to"):
            ready(lambda: array_file(str(tmp_path / "x.npz"), 10, 0), levels=None)
    np.savez(tmp_path / "x.npz", x_train=GREYS, x_test=np.zeros_like(GREYS))
    with pytest.raises(DataError, match="every pixel of its test images is 0, but its training images reach 255"):
        ready(lambda: array_file(str(tmp_path / "x.npz"), 10, 0), levels=None)


def test_values_above_the_levels_but_far_below_255_are_refused(tmp_path: Path) -> None:
    """They fit neither the configured levels nor a scale of 255; values spread over 0 .. 255 are accepted."""
    source = stored("npy uint8", RANDOM.integers(0, 100, (40, 6, 6), dtype=np.uint8), tmp_path)
    both = "no pixel is brighter than 99 of 255; set data.levels=100 if 99 is white, or data.levels=256 if white is 255"
    with pytest.raises(ConfigError, match=f"levels=10: {both}"):
        ready(source, levels=10)
    assert pixels(ready(source, levels=100)).max() == 1
    assert pixels(ready(source, levels=None)).max().item() == pytest.approx(99 / 255)
    spread = stored("npy uint8", RANDOM.integers(0, 8, (40, 6, 6), dtype=np.uint8) * np.uint8(28), tmp_path)
    assert pixels(ready(spread, levels=10)).max().item() == pytest.approx(196 / 255)


def test_images_of_a_data_function_must_be_a_tensor() -> None:
    images = np.zeros((40, 1, 4, 4), np.uint8)
    with pytest.raises(DataError, match="its images are ndarray; a data function must return a uint8 tensor"):
        make(Arrays(Examples(images, torch.zeros(40)), Examples(images, torch.zeros(40)))).setup()  # type: ignore[arg-type]


def test_levels_judged_from_the_data_are_stored_with_the_run(tmp_path: Path, train: Train) -> None:
    """They are in its config and checkpoint, so that a resumed run and an evaluation use the same."""
    np.savez(tmp_path / "x.npz", images=np.repeat(BITS, 30, axis=0))
    command = ("model=mlp_vae", "data=arrays", f"data.path={tmp_path / 'x.npz'}", "trainer=smoke", "callbacks=none")
    refused = train(*command)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "data.levels=null: no pixel is brighter than 1 of 255; set data.levels=2 if 1 is white" in refused.stderr
    done = train(*command, "data.levels=2")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0.1 < metrics["test/bits_per_dim"] < 3  # a random bit takes one
    evaluated = forked("scripts/evaluate.py", f"run={tmp_path / 'run'}", "metrics=[elbo]", "limit=20")
    assert evaluated.returncode == 0, evaluated.stderr

    np.savez(tmp_path / "x.npz", images=RANDOM.integers(0, 256, (1200, 12, 12), dtype=np.uint8))
    folder = f"hydra.run.dir={tmp_path / 'other'}"
    assert forked("train.py", *command, folder).returncode == 0
    assert "levels: 256" in (tmp_path / "other" / "config.yaml").read_text()
    resumed = forked("train.py", *command, folder, "trainer.max_epochs=2", "resume=auto")
    assert resumed.returncode == 0, resumed.stderr
