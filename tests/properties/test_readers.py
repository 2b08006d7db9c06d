"""For any bytes, readers of data files either succeed or raise a DataError of one line that names the file."""

from __future__ import annotations

import json
import math
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nelbo.data import array_file
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.sets import cifar, mnist, published
from nelbo.data.sets.idx import read_idx
from nelbo.data.sets.pictures import read_picture
from nelbo.data.store import read_store
from nelbo.errors import ConfigError, DataError
from tests.helpers.mutants import KINDS, assert_usable, read_part
from tests.helpers.properties import MORE, in_one_folder

few = settings(in_one_folder, max_examples=60 * MORE)
MAGIC = {
    "x.npy": b"\x93NUMPY\x01\x00",
    "x.npz": b"PK\x03\x04",
    "x.safetensors": b"",
    "x.amat": b"0 1 ",
    "x.bin": b"",
    "chardata.mat": b"MATLAB 5.0 MAT-file",
    "train_32x32.mat": b"MATLAB 5.0 MAT-file",
    "dsprites.npz": b"PK\x03\x04",
    "file.gz": b"\x1f\x8b\x08\x00",
    "file.tgz": b"\x1f\x8b\x08\x00",
    "file.tar": b"folder/file",
    "test_batch.png": b"\x89PNG\r\n\x1a\n",
}
READ: dict[str, Callable[[Path], object]] = {name: reader for name, (_, reader) in KINDS.items() if name in MAGIC} | {
    "x.amat": mnist.read_amat,
    "x.bin": lambda path: assert_usable(cifar.read_records([path], 1)),
    "chardata.mat": published.read_omniglot,
    "train_32x32.mat": published.read_svhn,
}


@pytest.fixture
def home(tmp_path: Path, cache: Path) -> Path:
    return tmp_path


def error_of(read: Callable[[Path], object], path: Path, content: bytes) -> str:
    """Return the message of the error for a file with this content, or an empty text if it is readable."""
    path.write_bytes(content)
    shutil.rmtree(path.parent / "cache", ignore_errors=True)
    try:
        with warnings.catch_warnings(action="ignore"):
            read(path)
    except DataError as error:
        assert str(path.name) in str(error) and "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("name", list(MAGIC))
@few
@given(content=st.binary(max_size=300), with_magic=st.booleans())
@example(content=b"", with_magic=False)
def test_any_bytes_are_read_or_raise(home: Path, name: str, content: bytes, with_magic: bool) -> None:
    error_of(READ[name], home / name, MAGIC[name] + content if with_magic else content)


@in_one_folder
@given(
    kind=st.sampled_from([8, 8, 8, 13]),
    shape=st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1)), max_size=6),
    extra=st.integers(-2, 2),
    cut=st.one_of(st.just(None), st.integers(0, 20)),
)
def test_idx_files_are_read_if_their_length_fits_the_header(
    home: Path, kind: int, shape: list[int], extra: int, cut: int | None
) -> None:
    size = math.prod(shape)
    content = bytes(index % 256 for index in range(max(0, size + extra))) if size < 10_000 else b"0"
    file = (struct.pack(f">4B{len(shape)}I", 0, 0, kind, len(shape), *shape) + content)[:cut]
    message = error_of(read_idx, home / "x", file)
    valid = kind == 8 and size > 0 and len(file) == 4 + 4 * len(shape) + size
    assert (message == "") == valid, message
    if valid:
        assert np.array_equal(read_idx(home / "x"), np.frombuffer(content, np.uint8).reshape(shape))


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 10), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)


@few
@given(
    manifest=st.one_of(
        VALUES,
        st.fixed_dictionaries({"shape": st.one_of(VALUES, st.just([9, 1, 4, 5])), "sha256": VALUES, "factors": VALUES}),
    )
)
def test_any_manifest_is_read_or_raises(home: Path, manifest: object) -> None:
    read_part("labels.npy", home / "labels.npy")  # completes the store
    store = home / "store"
    (store / "manifest.json").write_text(json.dumps(manifest))
    try:
        examples = read_store(store)
    except DataError as error:
        assert str(store) in str(error) and "\n" not in str(error)
    else:
        assert_usable(examples)


@few
@given(text=st.one_of(st.text(max_size=80), st.binary(max_size=80), st.just("sha256:" + "0" * 64)))
def test_any_record_of_a_digest_that_does_not_fit_raises(home: Path, cache: Path, text: str | bytes) -> None:
    """A file without a published digest is read only if its recorded digest fits."""
    (cache / "set").mkdir(parents=True, exist_ok=True)
    (cache / "set" / "file").write_bytes(b"content")
    (cache / "set" / "file.digest").write_bytes(text if isinstance(text, bytes) else text.encode(errors="replace"))
    with pytest.raises(DataError, match=r"file(\.digest)?: (not a readable digest|corrupt data file)") as caught:
        fetch([RemoteFile("file", "", None)], "set")
    assert "\n" not in str(caught.value)


@few
@given(
    content=st.binary(max_size=300),
    kind=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"P6 "]),
)
def test_any_picture_is_read_or_gives_a_message(home: Path, content: bytes, kind: bytes) -> None:
    (home / "x").write_bytes(kind + content)
    with warnings.catch_warnings(action="ignore"):
        result = read_picture(str(home / "x"), 4, 3)
    if isinstance(result, str):
        assert "\n" not in result
    else:
        assert result.pixels.shape == (3, 4, 4)


@few
@given(
    shape=st.lists(st.integers(0, 4), max_size=5),
    dtype=st.sampled_from(["u1", "?", "f4", "f8", "f2", "i4", "i8", "c8", "U3", "S2", "M8[s]", "u1,f4"]),
    scale=st.sampled_from([0, 1, 0.5, -1, 255]),
    labels=st.one_of(
        st.none(), st.tuples(st.lists(st.integers(0, 4), max_size=2), st.sampled_from(["i4", "u8", "f4"]))
    ),
    ending=st.sampled_from(["npy", "npz"]),
)
def test_any_array_is_read_or_raises(
    home: Path, shape: list[int], dtype: str, scale: float, labels: tuple[list[int], str] | None, ending: str
) -> None:
    array = np.zeros(shape, dtype) if dtype[0] in "USM" or "," in dtype else np.full(shape, scale).astype(dtype)
    path, labels_path = home / f"x.{ending}", home / "x_labels.npy"
    labels_path.unlink(missing_ok=True)
    arrays = {"images": array} | ({"labels": np.zeros(*labels)} if labels else {})
    if ending == "npz":
        np.savez(path, **arrays)
    else:
        np.save(path, array)
        if labels:
            np.save(labels_path, arrays["labels"])
    try:
        examples = array_file(str(path), 0.5, 0).train
    except ConfigError:
        assert len(array) == 1  # no image would remain for training
    except DataError as error:
        assert str(error).startswith((str(path), str(labels_path), "the data set is empty")) and "\n" not in str(error)
    else:
        images, read_labels, *_ = examples.__getitems__(torch.arange(len(examples)))
        assert images.numel() > 0 and images.ndim in (2, 4)
        if images.dtype == torch.uint8:
            assert images.ndim == 2 or images.shape[1] in (1, 3)
        else:
            assert images.dtype == torch.float32 and images.isfinite().all()
        assert labels is not None or (read_labels == -1).all()
