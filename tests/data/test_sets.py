"""Data sets: downloaded ones are compared with published checksums, the formats of others read from small files."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from nelbo.data import cifar10, digits, fashion_mnist, mnist
from nelbo.data.compat import digits_table
from nelbo.data.noise import Draws
from nelbo.data.protocols import PROTOCOLS
from nelbo.data.sets import cifar, published
from nelbo.data.sets.idx import read_idx
from nelbo.data.sets.mnist import read_amat
from nelbo.distributions import DiscretizedLogistic
from nelbo.errors import DataError
from tests.helpers.downloads import needs
from tests.helpers.forks import python


@needs("mnist")
def test_mnist_is_the_original() -> None:
    arrays = mnist()
    assert arrays.train.images.shape == (60_000, 1, 28, 28) and arrays.test.images.shape == (10_000, 1, 28, 28)
    assert arrays.train.images.dtype == torch.uint8
    # MD5 sums of the four published files, which consist of a header and the data.
    digests = {
        "6bbc9ace898e44ae57da46a324031adb": (arrays.train.images.squeeze(1), 3),
        "2646ac647ad5339dbf082846283269ea": (arrays.test.images.squeeze(1), 3),
        "a25bea736e30d166cdddb491f175f624": (arrays.train.labels.to(torch.uint8), 1),
        "27ae3e4e09519cfbb04c329615203637": (arrays.test.labels.to(torch.uint8), 1),
    }
    for digest, (tensor, dimensions) in digests.items():
        header = struct.pack(f">4B{dimensions}I", 0, 0, 8, dimensions, *tensor.shape)
        assert hashlib.md5(header + tensor.numpy().tobytes()).hexdigest() == digest
    mean, deviation = arrays.train.images.float().mean() / 255, arrays.train.images.float().std() / 255
    assert abs(mean - 0.1307) < 1e-4 and abs(deviation - 0.3081) < 1e-4
    assert arrays.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_digits_are_those_of_scikit_learn_in_their_order() -> None:
    from sklearn.datasets import load_digits

    arrays, bunch = digits(), load_digits()
    assert arrays.train.images.shape == (1500, 1, 8, 8) and arrays.test.images.shape == (297, 1, 8, 8)
    assert arrays.train.images.max() == 255 and arrays.train.images[0, 0, 0, 3] == round(13 * 255 / 16)
    original = torch.cat([arrays.train.images, arrays.test.images]).float() * 16 / 255
    assert torch.equal(original.round().squeeze(1).double(), torch.from_numpy(bunch.images))
    assert torch.equal(arrays.test.labels, torch.from_numpy(bunch.target[1500:]))


def test_digits_need_no_import_of_scikit_learn_and_are_the_same_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read = "from nelbo.data.compat import digits_table; digits_table()"
    done = python("-c", f"import sys; {read}; assert 'sklearn' not in sys.modules")
    assert done.returncode == 0, f"scikit-learn {version('scikit-learn')} keeps digits.csv.gz elsewhere: {done.stderr}"
    table = digits_table()
    monkeypatch.setattr("nelbo.data.compat.find_spec", lambda name: None)
    assert table.dtype == np.float64 and np.array_equal(digits_table(), table)


def test_the_format_of_larochelle_is_read(tmp_path: Path) -> None:
    rows = torch.randint(0, 2, (3, 784))
    text = "".join(" ".join(map(str, row.tolist())) + " \n" for row in rows)
    path = tmp_path / "x.amat"
    path.write_text(text.replace(" \n", "\n"))
    images = read_amat(path)
    assert torch.equal(images.flatten(1) / 255, rows)


def test_damaged_idx_files_are_refused_with_their_path(tmp_path: Path) -> None:
    good = struct.pack(">4B2I", 0, 0, 8, 2, 2, 3) + bytes(range(6))
    path = tmp_path / "file"
    path.write_bytes(good)
    assert read_idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    for content in (b"", good[:3], good[:6], good[:-1], good + b"x", b"<html>", gzip.compress(good)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            read_idx(path)


@needs("fashion_mnist")
def test_fashion_mnist_is_the_original() -> None:
    arrays = fashion_mnist()
    assert arrays.train.images.shape == (60_000, 1, 28, 28) and arrays.test.images.shape == (10_000, 1, 28, 28)
    assert arrays.train.labels.bincount().tolist() == [6000] * 10
    assert arrays.test.labels.bincount().tolist() == [1000] * 10
    pixels = arrays.train.images.float() / 255
    assert abs(pixels.mean() - 0.2860) < 1e-4 and abs(pixels.std() - 0.3530) < 1e-4  # as widely published
    assert arrays.classes[arrays.train.labels[0]] == "ankle boot"
    assert arrays.sha256() == "a06d3266794aa0147787f49603795ec5e8a32fac55270d9b4ac38d415b342e8c"


@needs("cifar10")
def test_cifar10_is_the_original() -> None:
    arrays = cifar10()
    assert arrays.train.images.shape == (50_000, 3, 32, 32) and arrays.test.images.shape == (10_000, 3, 32, 32)
    assert arrays.train.labels.bincount().tolist() == [5000] * 10
    assert arrays.test.labels.bincount().tolist() == [1000] * 10
    means = arrays.train.images.double().mean(dim=(0, 2, 3)) / 255
    published_means = torch.tensor([0.49139968, 0.48215841, 0.44653091], dtype=torch.float64)
    torch.testing.assert_close(means, published_means, rtol=0, atol=5e-9)
    assert [arrays.classes[label] for label in arrays.train.labels[:3]] == ["frog", "truck", "truck"]
    assert arrays.sha256() == "088db17c50ddf8b6d4ae26627291c330435e1f1bd0f0f70db194a685896d7abd"


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_the_binary_records_of_cifar_are_read(tmp_path: Path, label_bytes: int) -> None:
    """A record has its labels, then the red, green and blue planes; of two labels the last is the fine one."""
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(10, dtype=np.uint8).reshape(2, 5)[:label_bytes].T
    records = [bytes(label) + image.tobytes() for label, image in zip(labels, images, strict=True)]
    (tmp_path / "a").write_bytes(b"".join(records[:2]))
    (tmp_path / "b").write_bytes(b"".join(records[2:]))
    examples = cifar.read_records([tmp_path / "a", tmp_path / "b"], label_bytes)
    assert np.array_equal(examples.images, images)
    assert examples.labels.tolist() == labels[:, -1].tolist()


def test_a_damaged_package_of_cifar10_is_refused() -> None:
    picture = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (1024, 7)).save(picture, "PNG")
    for members in ({}, {"package/test_lables.json": b"[1]", "package/test_batch.png": picture.getvalue()}):
        with tarfile.open(fileobj=io.BytesIO(tar(members))) as archive, pytest.raises(ValueError):
            cifar._from_pngs(archive, None)


def omniglot_file(path: Path, train: int = 6, test: int = 4) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    content = {
        "data": random.random((784, train)),
        "target": np.eye(50)[:, random.integers(0, 50, train)],
        "testdata": random.random((784, test)),
        "testtarget": np.eye(50)[:, random.integers(0, 50, test)],
    }
    savemat(path, content)
    return content


def test_the_format_of_omniglot_is_read(tmp_path: Path) -> None:
    content = omniglot_file(tmp_path / "chardata.mat")
    arrays = published.read_omniglot(tmp_path / "chardata.mat")
    assert arrays.train.images.shape == (6, 1, 28, 28) and arrays.test.images.shape == (4, 1, 28, 28)
    # Images are stored in column-major order.
    assert arrays.test.images[2, 0, 5, 3] == round(content["testdata"][3 * 28 + 5, 2] * 255)  # type: ignore[index]
    assert arrays.train.labels.tolist() == content["target"].argmax(0).tolist()


def test_the_format_of_svhn_is_read(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), dtype=np.uint8)
    savemat(tmp_path / "x.mat", {"X": images, "y": np.array([[1], [9], [10], [2], [10]], dtype=np.uint8)})
    examples = published.read_svhn(tmp_path / "x.mat")
    assert examples.labels.tolist() == [1, 9, 0, 2, 0]
    assert examples.images[4, 2, 7, 9] == images[7, 9, 2, 4]  # type: ignore[index]


class Marker:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def dsprites_file(path: Path, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 2, (count, 64, 64), dtype=np.uint8)
    factors = np.stack([np.zeros(count, int), *(random.integers(0, size, count) for size in (3, 6, 40, 32, 32))], 1)
    metadata = np.array(Marker(path.with_suffix(".opened")), dtype=object)  # the published file has an object here too
    np.savez_compressed(path, imgs=images, latents_classes=factors, metadata=metadata)
    return images, factors


def test_the_format_of_dsprites_is_read_without_its_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NELBO_DATA", str(tmp_path / "cache"))
    images, factors = dsprites_file(tmp_path / "x.npz")
    for _ in range(2):  # the store is created, then read
        arrays = published.read_dsprites(tmp_path / "x.npz")
        assert len(arrays.train) == 36 and len(arrays.test) == 4
        pixels, labels, rows, _ = arrays.test.__getitems__(torch.arange(4))
        assert np.array_equal(pixels.squeeze(1) // 255, images[rows])
        assert labels.tolist() == factors[rows, 1].tolist()
        assert arrays.test.factors is not None and torch.equal(arrays.test.factors[rows], torch.tensor(factors[rows]))
    assert not (tmp_path / "x.opened").exists()
    with np.load(tmp_path / "x.npz", allow_pickle=True) as content:
        _ = content["metadata"]
    assert (tmp_path / "x.opened").exists()  # unpickling would have created it
    both = torch.cat([arrays.train.indices, arrays.test.indices])  # type: ignore[list-item]
    assert sorted(both.tolist()) == list(range(40))


def test_pixels_of_digits_are_in_the_support_of_a_likelihood_with_17_levels() -> None:
    """Although they are rounded to 8 bits."""
    support = DiscretizedLogistic(torch.zeros(1, 8, 8), torch.ones(1, 1, 1), 17).support
    assert support.check(PROTOCOLS["raw"].present(digits().train.images, Draws(0, 0, torch.arange(1500)))).all()
