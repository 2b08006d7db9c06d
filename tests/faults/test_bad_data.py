"""Invalid data raise a DataError of one line that names the file, and memory stays bounded."""

from __future__ import annotations

import gzip
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from nelbo.data import array_file, image_folder
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.origins import copy_member, copy_unpacked
from nelbo.data.sets import cifar, mnist, published
from nelbo.errors import DataError
from tests.helpers.children import Child
from tests.helpers.mutants import BATCH, KINDS, PIXELS, Local, peak, read_all, reset_peak
from tests.helpers.server import archive

pytestmark = pytest.mark.usefixtures("cache")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures memory through Linux's /proc")
LIMIT = 64 << 20
"""Maximum memory in bytes for reading a damaged file of a few KB."""


@linux
@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_bad_data(tmp_path: Path, count: int) -> None:
    """A damaged file of any kind gives a DataError, or, without a checksum, data of the right form; nothing else."""
    status, output = Child(lambda: read_all(count, tmp_path)).wait()
    assert status == 0, output
    results = json.loads(output)
    assert results.keys() == KINDS.keys() and sum(result["tries"] for result in results.values()) == count
    for name, result in results.items():
        assert not result["wrong"], f"{name}: {len(result['wrong'])} wrong, such as {result['wrong'][0]}"
        assert result["grew"] < LIMIT, f"{name}: {result['grew']:,} bytes"
    assert sum(result["refused"] for result in results.values()) > count // 2


def memory_and_error(work: Callable[[], object]) -> tuple[int, str]:
    """Return the peak memory of `work` in MiB, and the message of the DataError that it raises, or an empty string."""

    def child() -> str:
        before, message = reset_peak(), ""
        try:
            work()
        except DataError as error:
            message = str(error)
        return json.dumps([peak() - before >> 20, message])

    status, output = Child(child).wait()
    assert status == 0, output
    grew, message = json.loads(output)
    return grew, message


ZEROS = 200 << 20
BOMB = gzip.compress(bytes(ZEROS))


@linux
@pytest.mark.parametrize("size", [1000, None])
def test_bad_data_gzip_bomb(tmp_path: Path, cache: Path, size: int | None) -> None:
    """204 KB that unpack to 200 MiB: unpacked in chunks, and no further than the expected size if it is known."""
    (tmp_path / "bomb.gz").write_bytes(BOMB)
    origin = Local(
        str(tmp_path / "bomb.gz"), lambda source, target, limit: copy_unpacked(source, target, limit, packed=True)
    )
    grew, message = memory_and_error(lambda: fetch([RemoteFile("file", "", size, (origin,))], "set"))
    assert grew < 16
    assert message == "" if size is None else f"{tmp_path / 'bomb.gz'} (1001 bytes where 1000 are expected)" in message


@linux
def test_bad_data_tar_bomb(tmp_path: Path) -> None:
    (tmp_path / "bomb.tgz").write_bytes(archive("file", bytes(ZEROS)))
    origin = Local(str(tmp_path / "bomb.tgz"), lambda source, target, limit: copy_member(source, "file", target, limit))
    grew, message = memory_and_error(lambda: fetch([RemoteFile("file", "", 1000, (origin,))], "set"))
    assert grew < 16 and "bomb.tgz (1001 bytes where 1000 are expected)" in message


@linux
def test_bad_data_array_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rejected before it is unpacked."""
    from nelbo.data.sets import files

    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((5000, 64, 64), np.uint8))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(files, "LARGEST_SHARE", 1e-6)
    grew, message = memory_and_error(lambda: array_file(str(path), 0.1, 0))
    assert grew < 16 and "needs 20,480,128 bytes" in message and "save its images as a .npy file" in message


@linux
def test_bad_data_mat_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "OMNIGLOT_LIMIT", 10 << 20)
    path = tmp_path / "chardata.mat"
    greys, one_hot = np.zeros((784, 8000)), np.zeros((50, 8000))
    savemat(path, {"data": greys, "target": one_hot, "testdata": greys, "testtarget": one_hot}, do_compression=True)
    assert path.stat().st_size < 200_000
    grew, message = memory_and_error(lambda: published.read_omniglot(path))
    assert grew < 16 and f"{path}: not a readable Omniglot file (unpacks to more than" in message


@linux
def test_bad_data_picture_bomb(tmp_path: Path) -> None:
    """A picture whose header announces too many pixels is not decoded; one just below the limit is decoded once."""
    home = tmp_path / "p"
    home.mkdir()
    Image.new("1", (20_000, 20_000)).save(home / "bomb.png")
    grew, message = memory_and_error(lambda: image_folder(str(home), 8, 3, 90, 1, 0))
    assert grew < 16 and "bomb.png (400 megapixels, more than data.max_megapixels=90)" in message
    (home / "bomb.png").unlink()
    Image.new("RGB", (6000, 6000)).save(home / "large.png", compress_level=1)
    Image.new("RGB", (9, 9)).save(home / "small.png")
    grew, message = memory_and_error(lambda: image_folder(str(home), 8, 3, 90, 1, 0))
    assert grew < 1.5 * (6000**2 * 3 >> 20) and message == ""


def idx(*shape: int) -> bytes:
    """Return an IDX file of zeros."""
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(int(np.prod(shape)))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (idx(3, 28, 28), idx(2), r"labels: has labels of shape \(2,\), the images of .*images \(3, 28, 28\)"),
        (idx(3, 28, 28), idx(3, 1), r"labels: has labels of shape \(3, 1\)"),
        (idx(3, 28, 28), idx(3, 28, 28), "labels: has labels of shape"),
        (idx(3), idx(3), "labels: has labels of shape"),
        (idx(0, 28, 28), idx(0), "images: its header declares no values"),
        (idx(3, 28, 28), b"", "labels: not an IDX file"),
        (idx(3, 28, 28)[:-1], idx(3), "images: 2351 values, but its header declares 2352"),
    ],
)
def test_bad_data_sizes_and_labels_of_idx(tmp_path: Path, images: bytes, labels: bytes, message: str) -> None:
    paths = [tmp_path / "images", tmp_path / "labels"]
    for path, content in zip(paths, (images, labels), strict=True):
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        mnist._from_idx([*paths, *paths], ())
    assert "\n" not in str(caught.value)


X, Y = np.zeros((32, 32, 3, 2), np.uint8), np.array([[1], [10]])
GREYS, HOT = np.zeros((784, 2)), np.eye(50)[:, :2]


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (published.read_svhn, {"X": X}, "has no y"),
        (published.read_svhn, {"y": Y}, "has no X"),
        (published.read_svhn, {"X": X, "y": Y[:1]}, "X has shape .* y"),
        (published.read_svhn, {"X": X.astype(float), "y": Y}, "type float64"),
        (published.read_svhn, {"X": X[:31], "y": Y}, "X has shape"),
        (published.read_svhn, {"X": X, "y": Y + 1}, "y holds labels other than 1 to 10"),
        (published.read_svhn, {"X": X, "y": np.array([[1.0], [np.nan]])}, "y holds labels other than"),
        (published.read_svhn, {"X": X, "y": ["one", "two"]}, "not a readable SVHN file"),
        (published.read_omniglot, {"data": GREYS, "target": HOT, "testdata": GREYS}, "has no testtarget"),
        (
            published.read_omniglot,
            {"data": GREYS, "target": HOT[:, :1], "testdata": GREYS, "testtarget": HOT},
            "data has shape",
        ),
        (
            published.read_omniglot,
            {"data": GREYS + 2, "target": HOT, "testdata": GREYS, "testtarget": HOT},
            "data has shape",
        ),
        (
            published.read_omniglot,
            {"data": "text", "target": HOT, "testdata": GREYS, "testtarget": HOT},
            "not a readable Omniglot file",
        ),
    ],
)
def test_bad_data_sizes_and_labels_of_mat(
    tmp_path: Path, read: Callable[[Path], object], content: dict[str, object], message: str
) -> None:
    path = tmp_path / "x.mat"
    savemat(path, content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.npy", "float.npy", "x.npz", "x.safetensors"])
def test_bad_data_without_a_pixel(tmp_path: Path, name: str) -> None:
    KINDS[name][0](tmp_path / name)
    arrays = {"images": PIXELS[:, :0], "labels": np.arange(9)}
    match tmp_path.joinpath(name).suffix:
        case ".npy":
            np.save(tmp_path / name, arrays["images"])
        case ".npz":
            np.savez(tmp_path / name, **arrays)
        case _:
            from safetensors.numpy import save_file

            save_file(arrays, tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: .* has shape \(9, 0, 5\); needs images of shape"):
        array_file(str(tmp_path / name), 1, 0)


def test_bad_data_records_and_package_of_cifar(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(3072))
    with pytest.raises(DataError, match="x.bin: not a readable file of records"):
        cifar.read_records([tmp_path / "x.bin"], 1)
    monkeypatch.setattr(cifar, "BATCH", BATCH)
    write, read = KINDS["test_batch.png"]
    Image.new("RGB", (100, 100)).save(tmp_path / "test_batch.png", "GIF")
    with pytest.raises(DataError, match="test_batch.png .cannot identify image file"):  # although it is a valid GIF
        read(tmp_path / "test_batch.png")


def test_bad_data_labels_of_a_store(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    wrong = ((np.arange(8), "8 rows of torch.int64 for 9 images"), (np.ones(9), "9 rows of torch.float64"))
    for labels, message in wrong:
        np.save(path, labels)
        with pytest.raises(DataError, match=f"labels.npy: not a readable array .{message}"):
            KINDS["labels.npy"][1](path)
