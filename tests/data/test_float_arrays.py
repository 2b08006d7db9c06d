"""Arrays of a file that are no 8-bit pixels: floats and vectors, served as they are, and what is read beside them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from nelbo.data import array_file
from nelbo.data.memory_map import MemoryMap
from nelbo.errors import ConfigError, DataError
from nelbo.running.floats import refuse_levels
from tests.helpers.image_data import make
from tests.helpers.pictures import RANDOM

pytestmark = pytest.mark.usefixtures("cache")
PIXELS = RANDOM.integers(0, 256, (40, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(40) % 7


def write(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


BYTES = PIXELS.astype(float)
ADVISED: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "-1 or 1": (np.where(PIXELS > 99, 1, -1).astype(np.int8), np.where(PIXELS > 99, 255, 0).astype(np.uint8)),
    "-128 to 127": ((BYTES - 128).astype(np.int8), PIXELS),
    "16 bits": (PIXELS.astype(np.uint16) * 256 + 7, PIXELS),
    "16 bits, signed": (PIXELS.astype(np.int64) * 256 + 7, PIXELS),
    "12 bits": (PIXELS.astype(np.uint16) * 16 + 3, PIXELS),
    "large and negative": ((PIXELS.astype(np.int16) - 128) * 250, PIXELS),
}
"""Whole numbers that are refused with advice, and the pixels that following the advice gives."""

FLOATS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "0 to 255": (BYTES.astype(np.float32), PIXELS),
    "0 to 255, not whole": (np.clip(BYTES + 0.3, 0, 255), PIXELS),
    "0 to 255, overshot": (np.where(BYTES == 255, 258.0, BYTES), PIXELS),
    "0 to 1": (np.clip(BYTES / 255 + 0.001, 0, 1), PIXELS),
    "0 to 1/255": (BYTES / 255 / 255, PIXELS),
    "0 to 1, overshot": (BYTES / 255 * 1.02 - 0.01, np.round(np.clip(BYTES * 1.02 - 2.55, 0, 255)).astype(np.uint8)),
    "-1 to 1": ((BYTES / 127.5 - 1).astype(np.float32), PIXELS),
    "-1 to 1, float16": ((PIXELS // 85 * 85 / 127.5 - 1).astype(np.float16), PIXELS // 85 * 85),
    "0 to 16": (np.round(BYTES * 16 / 255), np.round(np.round(BYTES * 16 / 255) * 255 / 16).astype(np.uint8)),
    "16 bits": (BYTES * 257, PIXELS),
    "standardised": ((BYTES - 128) / 30, PIXELS),
}
"""Floats that are served as they are, and the pixels that a likelihood of pixels advises to make of them."""


def assert_gives(code: str, x: np.ndarray, expected: np.ndarray, tmp_path: Path) -> None:
    """Check that an advised expression gives the expected pixels."""
    file = write(tmp_path / "y.npz", images=eval(code, {"np": np, "x": x}))
    data = make(source=lambda: array_file(str(file), 1, 0), shape=None, levels=None)
    data.setup()
    assert np.array_equal(data.splits["test"].images, expected)  # the whole array, which the splits index


@pytest.mark.parametrize("case", ADVISED)
def test_the_expression_that_is_advised_for_whole_numbers_gives_the_right_pixels(tmp_path: Path, case: str) -> None:
    x, expected = ADVISED[case]
    with pytest.raises(DataError) as caught:
        array_file(str(write(tmp_path / "x.npz", images=x)), 1, 0)
    code = re.search(r"; save (.*), where x is images", str(caught.value))
    assert code and "\n" not in str(caught.value), caught.value
    assert "or x.astype(np.float32) for numbers that are no pixels" in str(caught.value)
    assert_gives(code[1], x, expected, tmp_path)


@pytest.mark.parametrize("case", FLOATS)
def test_floats_are_served_as_they_are_and_a_likelihood_of_pixels_advises_how_to_convert_them(
    tmp_path: Path, case: str
) -> None:
    x, expected = FLOATS[case]
    data = make(source=lambda: array_file(str(write(tmp_path / "x.npz", images=x)), 1, 0), shape=None, levels=None)
    data.setup()
    examples = data.splits["train"]
    batch = examples.__getitems__(torch.arange(len(examples)))
    assert np.array_equal(data.present("train", batch).x, x[batch.positions].astype(np.float32))
    assert np.array_equal(data.present("train", batch, 0).x, x[batch.positions].astype(np.float32))
    with pytest.raises(ConfigError) as caught:
        refuse_levels({"model": {"likelihood": {"levels": None}}}, data, "discretized_logistic")
    code = re.search(r", or save (.*?) if they are pixels", str(caught.value))
    assert code, caught.value
    assert_gives(code[1], x, expected, tmp_path)


def test_examples_that_are_not_finite_are_named_and_leaving_them_out_is_advised(tmp_path: Path) -> None:
    x = (BYTES / 127.5 - 1).astype(np.float32)
    x[7, 2, 5, 1], x[7, 0, 0, 0], x[11, 1, 1, 1] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "x.npy", x)
    for file, name in (
        (write(tmp_path / "x.npz", images=x.astype(np.float64)), "images"),
        (tmp_path / "x.npy", "the array"),
    ):
        message = f"{file}: {name} holds NaN or infinity in 2 of 40 examples, the first at [7, 0, 0, 0]; save "
        with pytest.raises(DataError, match=re.escape(message)) as caught:
            array_file(str(file), 1, 0)
        code = re.search(r"; save (.*), where x is ", str(caught.value))
        assert code
        rest = eval(code[1], {"np": np, "x": x})
        assert np.array_equal(rest, np.delete(x, [7, 11], axis=0))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
@pytest.mark.parametrize(
    ("stored", "layout", "expected"),
    [
        ((40, 20), None, (20,)),
        ((40, 6, 5), None, (1, 6, 5)),
        ((40, 3, 6, 5), None, (3, 6, 5)),
        ((40, 6, 5, 3), None, (3, 6, 5)),
        ((40, 2, 6, 5), None, (2, 6, 5)),
        ((40, 4, 4, 5), None, (4, 4, 5)),
        ((40, 6, 5, 4), "last", (4, 6, 5)),
        ((40, 7, 6, 5), "first", (7, 6, 5)),
    ],
)
def test_floats_of_every_shape_and_type_are_read(
    tmp_path: Path, dtype: str, suffix: str, stored: tuple[int, ...], layout: str | None, expected: tuple[int, ...]
) -> None:
    x = RANDOM.normal(5, 3, stored).astype(dtype)
    file = tmp_path / f"x{suffix}"
    np.save(file, x) if suffix == ".npy" else np.savez(file, x=x)
    arrays = array_file(str(file), 10, 0, layout)
    assert arrays.shape == expected
    assert isinstance(arrays.train.images, MemoryMap) == (suffix == ".npy" and x.dtype == np.dtype("<f4"))
    images, _, rows, _ = arrays.test.__getitems__(torch.arange(10))
    assert images.dtype == torch.float32 and images.is_contiguous()
    channels_first = np.moveaxis(x, -1, 1) if stored[-1] == expected[0] and len(stored) == 4 else x
    assert np.array_equal(images, channels_first.reshape(len(x), *expected)[rows].astype(np.float32))


def test_the_layout_of_images_with_other_channels_is_asked_for(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.float32):
        file = write(tmp_path / "x.npz", images=RANDOM.integers(0, 256, (40, 6, 5, 4)).astype(dtype))
        with pytest.raises(ConfigError, match="layout=null: images of x.npz has shape .* set data.layout=first or"):
            array_file(str(file), 10, 0)
        assert array_file(str(file), 10, 0, "last").shape == (4, 6, 5)
        assert array_file(str(file), 10, 0, "first").shape == (6, 5, 4)
        with pytest.raises(ConfigError, match="layout=middle: must be one of first, last"):
            array_file(str(file), 10, 0, "middle")


def test_vectors_of_bytes_are_pixels(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS.reshape(40, -1))
    data = make(source=lambda: array_file(str(tmp_path / "x.npy"), 10, 0), shape=None, levels=None)
    data.setup()
    assert data.shape == (90,) and data.levels == 256 and data.extremes is None
    x = data.starting_batch().x
    assert x.shape == (10, 90) and 0 <= x.min() < x.max() == 1


def test_columns_and_factors_are_read_from_a_file_or_files_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, age, site = RANDOM.normal(size=(40, 6)), RANDOM.normal(30, 9, 40), np.array(["york", "bonn"])[LABELS % 2]
    factors = np.stack([LABELS, LABELS % 2], axis=1)
    np.savez(tmp_path / "x.npz", x=x, y=LABELS, factors=factors, age=age, site=site, page=age)
    np.save(tmp_path / "x.npy", x)
    for name, values in (("labels", LABELS), ("factors", factors), ("age", age), ("site", site)):
        np.save(tmp_path / f"x_{name}.npy", values)
    split = {"x_train": x[:25], "x_val": x[25:30], "x_test": x[30:], "age_train": age[:25], "valAge": age[25:30]}
    split |= {"test_age": age[30:], "site_train": site[:25], "site_val": site[25:30], "site_test": site[30:]}
    split |= {"factors_train": factors[:25], "val_factors": factors[25:30], "factors_test": factors[30:]}
    np.savez(tmp_path / "split.npz", **split)
    for name in ("x.npz", "x.npy", "split.npz"):
        arrays = array_file(str(tmp_path / name), 10, 0, columns=["age", "site"])
        offset = 30 if name == "split.npz" else 0
        for examples, start in ((arrays.train, 0), (arrays.test, offset)):
            batch = examples.__getitems__(torch.arange(len(examples)))
            rows = batch.positions + start
            assert np.array_equal(batch.columns["age"], age[rows].astype(np.float32))
            assert np.array_equal(batch.columns["site"], (site[rows] == "york").astype(np.int64))
            assert np.array_equal(batch.columns["factors"], factors[rows].astype(np.float32))
            assert examples.factors is not None and examples.factors.dtype == torch.int64
    assert caplog.messages == [f"{tmp_path / 'x.npz'}: arrays that are not used: page"]


def test_columns_that_cannot_be_read_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = RANDOM.normal(size=(40, 6))
    file = write(tmp_path / "x.npz", x=x, short=x[:5], gap=x[:, 0] * np.nan, dates=LABELS.astype("M8[s]"), factors=x)
    np.save(tmp_path / "x.npy", x)
    for columns, error, message in (
        (["age"], ConfigError, f"columns=age: needs an array age in {file}, which holds x, short, gap, dates, factors"),
        (
            ["label"],
            ConfigError,
            "columns=label: is no name of a column; labels, factors and masks are read without it",
        ),
        ("age", ConfigError, "columns=age: must be a list of names, such as [age,site], or null"),
        (["short"], DataError, f"{file}: short has shape (5, 6) for 40 examples; needs one of each"),
        (["gap"], DataError, f"{file}: gap holds NaN or infinity in 40 of 40 examples, the first at [0]"),
        (["dates"], DataError, f"{file}: dates holds datetime64[s]; needs whole numbers, floats or texts"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            array_file(str(file), 10, 0, columns=columns)
    with pytest.raises(ConfigError, match=f"columns=age: needs the file {tmp_path / 'x_age.npy'}"):
        array_file(str(tmp_path / "x.npy"), 10, 0, columns=["age"])
    assert array_file(str(file), 10, 0).train.factors is None
    assert f"{file}: factors are not whole numbers, so they are left out; they are for" in caplog.text


def test_whole_numbers_of_any_type_and_float16_levels_are_converted_exactly(tmp_path: Path) -> None:
    for x in (PIXELS.astype(np.int64), PIXELS.astype(np.uint16), (BYTES / 255).astype(np.float16), BYTES / 255):
        arrays = array_file(str(write(tmp_path / "x.npz", images=x)), 1, 0)
        assert np.array_equal(arrays.train.images, PIXELS), x.dtype


def test_pixels_that_were_saved_as_floats_are_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "x.npz", images=BYTES)
    array_file(str(file), 1, 0)
    hint = "save np.round(images).astype(np.uint8) for pixels"
    assert caplog.messages == [
        f"{file}: images holds whole numbers from 0 to 255 as floats, served as they are; {hint}"
    ]
