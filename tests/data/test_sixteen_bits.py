"""Folders of 16-bit pictures, which are floats unless `data.bits` says otherwise."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nelbo.data import Arrays, image_folder
from nelbo.data.memory_map import MemoryMap
from nelbo.data.sets.pictures import BITS
from nelbo.data.store import damage, stores
from nelbo.errors import ConfigError, DataError
from tests.helpers.forks import Train
from tests.helpers.image_data import make
from tests.helpers.pictures import RANDOM, picture, png16

pytestmark = pytest.mark.usefixtures("cache")


def read(home: Path, **changes: object) -> Arrays:
    options = {"root": str(home), "image_size": [6, 10], "channels": 1, "max_megapixels": 90, "test_size": 1, "seed": 0}
    return image_folder(**{**options, "bits": None, **changes})  # type: ignore[arg-type]


def scans(home: Path, count: int = 5, size: tuple[int, int] = (6, 10), white: int = 65535) -> np.ndarray:
    """Write grey PNGs, of which each differs from the next in its lower eight bits too; return them, (N, H, W)."""
    values = RANDOM.integers(0, white + 1, (count, *size)).astype(np.uint16)
    values[0, 0, :2] = 0, white
    for index, image in enumerate(values):
        png16(home / f"{index:03d}.png", image[..., None])
    return values


def images(arrays: Arrays) -> torch.Tensor:
    """Return all pictures in the order of their paths."""
    return arrays.train.images.index_select(0, torch.arange(len(arrays.train.images)))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_values_are_divided_by_65535(ending: str, tmp_path: Path) -> None:
    values = scans(tmp_path / "p")
    if ending == "tif":
        for index, image in enumerate(values):
            (tmp_path / "p" / f"{index:03d}.png").unlink()
            Image.fromarray(image).save(tmp_path / "p" / f"{index:03d}.tif")
    arrays = read(tmp_path / "p")
    stored = arrays.train.images
    assert isinstance(stored, MemoryMap) and arrays.shape == (1, 6, 10) and stored.dtype == torch.float32
    expected = torch.from_numpy(values.astype(np.float32) / 65535)[:, None]
    assert torch.equal(images(arrays), expected) and expected.max() == 1
    assert torch.equal(pickle.loads(pickle.dumps(stored)).index_select(0, torch.arange(5)), expected)
    data = make(source=lambda: read(tmp_path / "p"), shape=None, levels=None, validation_size=1)
    data.setup()
    assert data.extremes == (0, 1) and data.levels is None and data.value_range(data.starting_batch()) is None


def test_the_store_is_read_again_and_verified(tmp_path: Path) -> None:
    scans(tmp_path / "p")
    first = read(tmp_path / "p")
    (store,) = stores()
    before = (store / "images.bin").stat().st_ino
    assert read(tmp_path / "p").sha256() == first.sha256() and (store / "images.bin").stat().st_ino == before
    assert (store / "images.bin").stat().st_size == 5 * 60 * 4 and not damage(store)
    with open(store / "images.bin", "r+b") as file:
        file.write(b"\1\2")
    assert "its SHA-256 is" in damage(store)
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["dtype"] == "float32" and manifest["sixteen_bits"] == 65535


def test_pictures_are_rotated_cropped_and_resized_without_losing_bits(tmp_path: Path) -> None:
    """A ramp in the lower eight bits is still one when it is half as wide, and black and white are not exceeded."""
    ramp = np.tile(32768 + 8 * np.arange(20, dtype=np.uint16), (12, 1))
    edge = np.tile(np.repeat(np.array([0, 65535], np.uint16), 10), (12, 1))
    tall = ramp[:6, :10]
    png16(tmp_path / "p" / "a.png", ramp[..., None])
    png16(tmp_path / "p" / "b.png", edge[..., None])
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(tall, 1).copy()).save(tmp_path / "p" / "c.png", exif=exif)
    colours = images(read(tmp_path / "p", channels=3))
    assert colours.shape == (3, 3, 6, 10) and torch.equal(colours[:, 0], colours[:, 2])
    halved, edged, rotated = colours[:, 0]
    expected = (32768 + 8 * (2 * torch.arange(10) + 0.5)) / 65535
    torch.testing.assert_close(halved[:, 2:-2], expected[2:-2].expand(6, 6), rtol=0, atol=2 / 65535)
    assert len(halved[0].unique()) == 10 and edged.min() == 0 and edged.max() == 1
    assert torch.equal(rotated, torch.from_numpy(tall.astype(np.float32) / 65535))


def test_pictures_of_8_and_16_bits_are_refused_together_unless_bits_are_chosen(tmp_path: Path) -> None:
    values = scans(tmp_path / "p", 3)
    picture(tmp_path / "p" / "x.png", (10, 6), "L")
    with Image.open(tmp_path / "p" / "x.png") as opened:
        grey = np.asarray(opened)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "p")
    assert str(caught.value) == (
        f"{tmp_path / 'p'}: holds pictures of 16 bits (000.png) and of 8 (x.png); set data.bits=16 to read all as "
        "floats, or data.bits=8 to keep the upper eight bits"
    )
    assert not stores()
    floats, upper = images(read(tmp_path / "p", bits=16)), images(read(tmp_path / "p", bits=8))
    assert torch.equal(floats[:3, 0], torch.from_numpy(values.astype(np.float32) / 65535))
    assert torch.equal(floats[3, 0], torch.from_numpy(grey.astype(np.float32) / 255))
    assert np.array_equal(upper[:3, 0], values >> 8) and np.array_equal(upper[3, 0], grey)
    for wrong in (12, True, "16"):
        with pytest.raises(ConfigError, match="bits=.*: must be 8, 16 or null"):
            read(tmp_path / "p", bits=wrong)


def test_training_and_test_pictures_have_the_same_bits(tmp_path: Path) -> None:
    scans(tmp_path / "p" / "train")
    picture(tmp_path / "p" / "test" / "x.png", (10, 6), "L")
    data = make(source=lambda: read(tmp_path / "p"), shape=None, levels=None, validation_size=1)
    with pytest.raises(
        DataError,
        match="its test data are uint8 and its training data floats; save both in one type, or set data.bits=16",
    ):
        data.setup()


def test_pictures_of_8_bits_are_read_as_before(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "p" / f"{index}.png", (10, 6))
    whole = images(read(tmp_path / "p", channels=3))
    assert whole.dtype == torch.uint8 and torch.equal(whole, images(read(tmp_path / "p", channels=3, bits=8)))
    assert BITS == (8, 16)


def test_a_dark_set_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for white, warned in ((65535, False), (4095, True)):
        scans(tmp_path / str(white), white=white)
        caplog.clear()
        make(source=lambda white=white: read(tmp_path / str(white)), shape=None, levels=None, validation_size=1).setup()
        expected = [
            "fake: its 16-bit pictures have no value above 4095, but white is read as 65535; save x << 4 if 4095 is"
        ]
        assert [message.removesuffix(" white") for message in caplog.messages] == (expected if warned else [])


def test_a_run_trains_with_a_density_and_refuses_one_of_levels(tmp_path: Path, train: Train) -> None:
    scans(tmp_path / "scans", 60)
    command = ["model=mlp_vae", "data=image_folder", f"data.root={tmp_path / 'scans'}", "trainer=smoke"]
    command += ["data.image_size=[6,10]", "data.channels=1"]
    cache = {"NELBO_DATA": str(tmp_path / "cache")}
    refused = train(*command, **cache)
    assert refused.returncode == 2 and refused.stderr.strip().splitlines()[-1].endswith(
        "likelihood=discretized_logistic: needs pixels of 8 bits, and image_folder holds floats from 0 to 1; use "
        "likelihood=gaussian or laplace, or data.bits=8, which keeps the upper eight bits"
    )
    levels = train(*command, "data.levels=256", "likelihood=gaussian", **cache)
    assert "use data.levels=null, or data.bits=8" in levels.stderr
    done = train(*command, "likelihood=gaussian", **cache)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert np.isfinite(result["test/nelbo"]) and "test/bits_per_dim" not in result
