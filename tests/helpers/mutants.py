"""Damaged files for every reader of data files, and the outcome of reading them."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import tarfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from scipy.io import savemat

from nelbo.data import array_file, image_folder
from nelbo.data.arrays import Examples
from nelbo.data.fetch import RemoteFile, fetch
from nelbo.data.memory_map import MemoryMap
from nelbo.data.origins import copy_member, copy_unpacked
from nelbo.data.sets import cifar, mnist, published
from nelbo.data.sets.idx import read_idx
from nelbo.data.store import read_store
from nelbo.errors import DataError
from tests.helpers.server import archive

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (9, 4, 5), dtype=np.uint8)
BATCH = 5


@dataclass(frozen=True)
class Local:
    """An origin that is a local file, unpacked by `unpack(source, target, limit)`."""

    name: str
    unpack: Callable[[Path, Path, int], None]

    def available(self) -> bool:
        """Return True."""
        return True

    def write(self, target: Path, scratch: Path, limit: int) -> None:
        """Unpack the file to `target`."""
        self.unpack(Path(self.name), target, limit)


def fetched(path: Path, unpack: Callable[[Path, Path, int], None]) -> bytes:
    """Fetch a local file through the cache, without a digest to check, and return its content."""
    (cached,) = fetch([RemoteFile("file", "", None, (Local(str(path), unpack),))], "set")
    return cached.read_bytes()


def assert_usable(examples: Examples) -> None:
    """Assert that examples can be indexed and that each has a label."""
    images = examples.images if isinstance(examples.images, MemoryMap) else examples.images.numpy()
    assert len(examples.labels) == len(images) and len(images.shape) == 4
    served, _, _, _ = examples.__getitems__(torch.arange(min(3, len(examples))))
    assert served.dtype == torch.uint8 or (served.dtype == torch.float32 and bool(served.isfinite().all()))


def write_pngs(path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (BATCH, 1024, 3), dtype=np.uint8)).save(path, "PNG")


def read_pngs(path: Path) -> None:
    """Read a damaged picture in an intact archive."""

    def unpack(source: Path, target: Path, limit: int) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in (("test_lables.json", b"[1,2,3,4,5]"), ("test_batch.png", source.read_bytes())):
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as opened:
            target.write_bytes(cifar._from_pngs(opened, None)[: limit + 1])

    fetched(path, unpack)


def write_picture(path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


def read_picture(path: Path) -> None:
    home = path.parent / "pictures"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    Image.new("RGB", (9, 9)).save(home / "other.png")
    shutil.copy(path, home)
    assert_usable(image_folder(str(home), 8, 3, 90, 1, 0).train)


def write_omniglot(path: Path) -> None:
    one_hot = np.eye(50)[:, [3, 4, 5]]
    data = RANDOM.random((784, 3))
    savemat(path, {"data": data, "target": one_hot, "testdata": data, "testtarget": one_hot}, do_compression=True)


def write_svhn(path: Path) -> None:
    images = RANDOM.integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    savemat(path, {"X": images, "y": np.array([[1], [10]], dtype=np.uint8)}, do_compression=True)


def write_dsprites(path: Path) -> None:
    images = RANDOM.integers(0, 2, (12, 64, 64), dtype=np.uint8)
    np.savez_compressed(path, imgs=images, latents_classes=RANDOM.integers(0, 3, (12, 6)))


def write_amat(path: Path) -> None:
    rows = RANDOM.integers(0, 2, (3, 784))
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def write_labels(path: Path) -> None:
    np.save(path.with_name("images.npy"), PIXELS)
    np.save(path, np.arange(9))


def read_part(name: str, path: Path) -> None:
    """Read a store in which the file `name` is damaged; without a damaged file, create an intact one."""
    home = path.parent / "store"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    (home / "images.bin").write_bytes(PIXELS.tobytes())
    (home / "manifest.json").write_text(json.dumps({"shape": [9, 1, 4, 5], "sha256": "0" * 64, "factors": True}))
    np.save(home / "labels.npy", np.arange(9))
    np.save(home / "factors.npy", np.zeros((9, 2), int))
    if path.exists():
        shutil.copy(path, home / name)
        assert_usable(read_store(home))
    else:
        shutil.copy(home / name, path)


def idx_set(path: Path) -> None:
    """Read a set of damaged images and intact labels."""
    labels = path.with_name("labels")
    labels.write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes(3))
    arrays = mnist._from_idx([path, labels, path, labels], ())
    assert_usable(arrays.train)


ARRAYS = {"images": PIXELS, "labels": np.arange(9)}
ARRAY_FILE = lambda path: assert_usable(array_file(str(path), 1, 0).train)  # noqa: E731
PICTURES = ("png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "jp2")

KINDS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "images-idx3-ubyte": (
        lambda path: path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 3, 5, 6) + bytes(range(90))),
        lambda path: (read_idx(path), idx_set(path)),
    ),
    "train.amat": (write_amat, lambda path: mnist.read_amat(path)),
    "data_batch_1.bin": (
        lambda path: path.write_bytes(RANDOM.bytes(3 * 3073)),
        lambda path: assert_usable(cifar.read_records([path], 1)),
    ),
    "test_batch.png": (write_pngs, read_pngs),
    "file.gz": (
        lambda path: path.write_bytes(gzip.compress(RANDOM.bytes(500))),
        lambda path: fetched(path, partial(copy_unpacked, packed=True)),
    ),
    "file.tgz": (
        lambda path: path.write_bytes(archive("folder/file", RANDOM.bytes(500))),
        lambda path: fetched(path, lambda source, target, limit: copy_member(source, "folder/file", target, limit)),
    ),
    "file.tar": (
        lambda path: path.write_bytes(gzip.decompress(archive("folder/file", RANDOM.bytes(500)))),
        lambda path: fetched(path, lambda source, target, limit: copy_member(source, "folder/file", target, limit)),
    ),
    "chardata.mat": (write_omniglot, lambda path: assert_usable(published.read_omniglot(path).train)),
    "train_32x32.mat": (write_svhn, lambda path: assert_usable(published.read_svhn(path))),
    "dsprites.npz": (write_dsprites, lambda path: assert_usable(published.read_dsprites(path).train)),
    "x.npy": (lambda path: np.save(path, PIXELS), ARRAY_FILE),
    "float.npy": (lambda path: np.save(path, PIXELS / 255), ARRAY_FILE),
    "images_labels.npy": (write_labels, lambda path: ARRAY_FILE(path.with_name("images.npy"))),
    "x.npz": (lambda path: np.savez_compressed(path, **ARRAYS), ARRAY_FILE),
    "stored.npz": (lambda path: np.savez(path, **ARRAYS), ARRAY_FILE),
    "x.safetensors": (lambda path: save_file(ARRAYS, path), ARRAY_FILE),
    **{f"picture.{ending}": (write_picture, read_picture) for ending in PICTURES},
    **{name: (partial(read_part, name), partial(read_part, name)) for name in ("manifest.json", "labels.npy")},
    **{name: (partial(read_part, name), partial(read_part, name)) for name in ("factors.npy", "images.bin")},
}


def mutate(good: bytes, others: list[bytes], random: np.random.Generator) -> bytes:
    """Return `good` with one random modification, sometimes two."""
    content = bytearray(good)
    for _ in range(1 if random.random() < 0.8 else 2):
        size = len(content) or 1
        # Half of the positions are in the first bytes, which are headers.
        start = int(random.integers(min(size, 128) if random.random() < 0.5 else size))
        length = int(random.integers(1, 64))
        match int(random.integers(9)):
            case 0:
                del content[start:]
            case 1:
                content[start : start + 1] = bytes([(*content[start : start + 1], 0)[0] ^ 1 << int(random.integers(8))])
            case 2:
                content[start : start + 8] = random.bytes(8)
            case 3:
                content[start : start + length] = bytes(length)
            case 4:
                content[start : start + length] = b"\xff" * length
            case 5:
                source = int(random.integers(size))
                content[start : start + length] = content[source : source + length]
            case 6:
                content += random.bytes(length)
            case 7:
                del content[start : start + length]
            case 8:
                other = others[int(random.integers(len(others)))]
                content[:length] = other[:length]
    return bytes(content)


def peak() -> int:
    """Return the peak resident memory in bytes since the last `reset_peak`."""
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))


def reset_peak() -> int:
    """Reset the peak of resident memory, and return the resident memory in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def read_all(count: int, folder: Path) -> str:
    """Read `count` damaged files of all kinds.

    It must run in a child process, because it changes the environment, warnings and the record of peak memory.

    Returns:
        JSON with, for each kind of file, `tries`, `refused` (number of DataErrors), `wrong` (other outcomes) and `grew`
        (bytes of memory).
    """
    warnings.simplefilter("ignore")
    os.environ["NELBO_DATA"] = str(folder / "cache")
    cifar.BATCH = BATCH
    intact = {}
    for name, (write, read) in KINDS.items():
        write(folder / name)
        intact[name] = (folder / name).read_bytes()
        read(folder / name)  # reads the intact file, which also does lazy imports
    random, results = np.random.default_rng(1), {}
    for index, (name, (_, read)) in enumerate(KINDS.items()):
        share = count // len(KINDS) + (index < count % len(KINDS))
        refused, wrong = 0, list[str]()
        before = reset_peak()
        for _ in range(share):
            content = mutate(intact[name], list(intact.values()), random)
            (folder / name).write_bytes(content)
            shutil.rmtree(folder / "cache", ignore_errors=True)
            try:
                read(folder / name)
            except DataError as error:
                refused += 1
                if not any(place in str(error) for place in (name, str(folder / "store"))) or "\n" in str(error):
                    wrong.append(f"message: {error}")
            except BaseException:
                wrong.append(traceback.format_exc())
        (folder / name).write_bytes(intact[name])
        results[name] = {"tries": share, "refused": refused, "wrong": wrong, "grew": peak() - before}
    return json.dumps(results)
