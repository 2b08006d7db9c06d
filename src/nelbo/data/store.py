"""Stores: data sets that were converted once into a memory-mapped file in the cache.

Later runs start without conversion and do not hold images in memory. A store is a folder with `images.bin` (uint8, or
float32 for data of real numbers; C order), `labels.npy`, `factors.npy` if there are factors, and `manifest.json`. It is
created in a scratch folder that is renamed, so a store is complete or absent.

Shapes: N examples in the store, B examples in a chunk, C H W image, F factors.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nelbo.data.arrays import Examples
from nelbo.data.fetch import cache_directory, workspace
from nelbo.data.memory_map import STORED, MemoryMap
from nelbo.data.readable import readable
from nelbo.errors import DataError

FORMAT = 1
"""Format number of stores; stores of other formats are not used."""

IMAGES, MANIFEST = "images.bin", "manifest.json"


@dataclass(frozen=True)
class Chunk:
    """A part of the images that are written to a store.

    Args:
        images: (B, C, H, W), uint8 or float32, the same in all chunks.
        labels: (B,).
        factors: (B, F); None if there are none.
        validation: whether the images belong to the validation set, whose chunks are the last ones.
        sixteen_bits: largest value of all 16-bit pictures up to and including this chunk; None if there were none.
    """

    images: np.ndarray
    labels: np.ndarray
    factors: np.ndarray | None = None
    validation: bool = False
    sixteen_bits: int | None = None


class Store:
    """A store in the cache, which may not exist yet.

    Args:
        place: path without the fingerprint that is added to the name of the folder.
        identity: plain values that the content depends on. Creating a store removes those with the same `place` and
            another identity.
    """

    def __init__(self, place: Path, identity: Sequence[object]) -> None:
        self.place = place
        self.folder = place.with_name(f"{place.name}-{fingerprint(FORMAT, *identity)}")

    def open(self, make: Callable[[], Iterator[Chunk]], num_bytes: int) -> Examples:
        """Return the examples of the store; create it first if it does not exist.

        Args:
            make: yields the content in chunks, all with images of the same shape.
            num_bytes: size of the images in bytes, compared with the free disk space beforehand; 0 if unknown.

        Raises:
            DataError: if the store cannot be written, or is damaged.
        """
        if not self.folder.exists():
            with workspace(self.folder.parent) as scratch:
                if not self.folder.exists():  # another process may have created it while this one waited
                    self._make(make, num_bytes, scratch)
        return read_store(self.folder)

    def validation(self) -> int:
        """Return how many images at the end of an existing store are a validation set."""
        with readable(self.folder / MANIFEST, "manifest", _rebuild_hint(self.folder)):
            return int(json.loads((self.folder / MANIFEST).read_text())["validation"])

    def _make(self, make: Callable[[], Iterator[Chunk]], num_bytes: int, scratch: Path) -> None:
        free = shutil.disk_usage(scratch).free
        if num_bytes > free:
            problem = f"needs {num_bytes:,} bytes of disk space, but only {free:,} are free"
            raise DataError(f"{self.folder}: {problem}; set NELBO_DATA to another folder")
        store = scratch / "store"
        store.mkdir()
        digest, shape, labels, factors, validation = hashlib.sha256(), (0, 0, 0), [], [], 0
        stored_as = torch.uint8
        sixteen_bits: int | None = None
        with open(store / IMAGES, "wb") as file:
            for chunk in make():
                stored_as = torch.from_numpy(chunk.images[:0]).dtype
                content = np.ascontiguousarray(chunk.images, STORED[stored_as])
                shape = content.shape[1:]
                file.write(content.data)
                digest.update(content.data)
                labels.append(chunk.labels)
                validation += len(content) if chunk.validation else 0
                sixteen_bits = chunk.sixteen_bits
                if chunk.factors is not None:
                    factors.append(chunk.factors)
            file.flush()
            os.fsync(file.fileno())
        if not labels:
            raise DataError(f"{self.place.name}: the data set is empty")
        _save(store / "labels.npy", labels)
        if factors:
            _save(store / "factors.npy", factors)
        manifest = {
            "shape": [sum(map(len, labels)), *shape],
            "sha256": digest.hexdigest(),
            "factors": bool(factors),
            "validation": validation,
            "sixteen_bits": sixteen_bits,
            "dtype": str(stored_as).removeprefix("torch."),
        }
        (store / MANIFEST).write_text(json.dumps(manifest))
        for number, old in enumerate(self.folder.parent.glob(f"{glob.escape(self.place.name)}-*")):
            os.rename(old, scratch / f"old{number}")  # removed with the scratch folder; open files remain readable
        os.rename(store, self.folder)


def _rebuild_hint(folder: Path) -> str:
    return f"delete {folder} to create it again"


def _save(path: Path, parts: Sequence[np.ndarray]) -> None:
    buffer = io.BytesIO()  # on a full disk np.save to a file raises an error without the reason
    np.save(buffer, np.concatenate(parts).astype(np.int64))
    path.write_bytes(buffer.getbuffer())


def read_store(folder: Path) -> Examples:
    """Return the examples of a store.

    Raises:
        DataError: if the store is damaged.
    """
    hint = _rebuild_hint(folder)
    with readable(folder / MANIFEST, "manifest", hint):
        manifest = json.loads((folder / MANIFEST).read_text())
        count, channels, height, width = manifest["shape"]
        shape, sha256, names = (count, channels, height, width), str(manifest["sha256"]), ["labels"]
        if manifest["factors"]:
            names.append("factors")
        largest = manifest.get("sixteen_bits")
        sixteen_bits = None if largest is None else int(largest)
        dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in STORED}
        dtype = dtypes[manifest.get("dtype", "uint8")]  # stores of earlier versions have no other
        images = MemoryMap(folder / IMAGES, shape, sha256, hint=hint, sixteen_bits=sixteen_bits, dtype=dtype)
    arrays = []
    for name in names:
        with readable(folder / f"{name}.npy", "array", hint):
            arrays.append(torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False)))
            if len(arrays[-1]) != len(images) or arrays[-1].dtype != torch.int64:
                raise ValueError(f"{len(arrays[-1])} rows of {arrays[-1].dtype} for {len(images)} images")
    return Examples(images, *arrays)  # type: ignore[arg-type] # labels, and factors if there are any


def stores() -> list[Path]:
    """Return the folders of all stores in the cache."""
    return sorted(path.parent for path in cache_directory().glob(f"*/*/{MANIFEST}"))


def damage(folder: Path) -> str:
    """Return how a store is damaged, after hashing its images; empty if it is not."""
    try:
        images = read_store(folder).images
    except DataError as error:
        return str(error)
    assert isinstance(images, MemoryMap)
    with open(folder / IMAGES, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual == images.sha256:
        return ""
    return f"{folder / IMAGES}: its SHA-256 is {actual}, expected {images.sha256}; {_rebuild_hint(folder)}"


def version(path: Path) -> list[object]:
    """Return plain values that change when a file changes, without reading it.

    They include the time of the last change of its inode, because programs that copy or unpack files may set the time
    of the last modification back.
    """
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def fingerprint(*parts: object) -> str:
    """Return sixteen hexadecimal digits of the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
