"""Images made once into one memory map in the cache, so that the next run starts at once and none is held in memory.

A store is a folder: `images.bin` (uint8, C order), `labels.npy`, `factors.npy` where there are factors, and
`manifest.json`. It is made in a scratch folder and renamed, so it is there whole or not at all.

Shapes: N or B examples, C H W image, F factors.
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
from nelbo.data.memory_map import MemoryMap
from nelbo.data.readable import readable
from nelbo.errors import DataError

FORMAT = 1
IMAGES, MANIFEST = "images.bin", "manifest.json"


@dataclass(frozen=True)
class Chunk:
    """Some images on their way into a store: uint8 (B, C, H, W), labels (B,), factors (B, F) where there are any.

    Those for `validation` come last. Of the pictures of 16 bits that have come so far, `sixteen_bits` is the largest
    value; None where there were none.
    """

    images: np.ndarray
    labels: np.ndarray
    factors: np.ndarray | None = None
    validation: bool = False
    sixteen_bits: int | None = None


class Store:
    """Where a set is, or will be, made.

    Args:
        place: in the cache; the store is the folder of that name and of its identity.
        identity: everything else that the content depends on, plain values; stores of other identities make way.
    """

    def __init__(self, place: Path, identity: Sequence[object]) -> None:
        self.place = place
        self.folder = place.with_name(f"{place.name}-{fingerprint(FORMAT, *identity)}")

    def open(self, make: Callable[[], Iterator[Chunk]], num_bytes: int) -> Examples:
        """The examples, made first where they are not there.

        Args:
            make: yields chunks, all of one shape.
            num_bytes: that the images will take, checked against the free disk before anything is made; 0 if unknown.

        Raises:
            DataError: if it cannot be written, or is damaged.
        """
        if not self.folder.exists():
            with workspace(self.folder.parent) as scratch:
                if not self.folder.exists():  # another process may have made it while this one waited
                    self._make(make, num_bytes, scratch)
        return read_store(self.folder)

    def validation(self) -> int:
        """How many of the last images are for validation, of a store that is there."""
        with readable(self.folder / MANIFEST, "manifest", f"delete {self.folder} to make it anew"):
            return int(json.loads((self.folder / MANIFEST).read_text())["validation"])

    def _make(self, make: Callable[[], Iterator[Chunk]], num_bytes: int, scratch: Path) -> None:
        free = shutil.disk_usage(scratch).free
        if num_bytes > free:
            raise DataError(f"{self.folder}: needs {num_bytes:,} bytes of disk, {free:,} are free; set NELBO_DATA")
        made = scratch / "store"
        made.mkdir()
        digest, shape, labels, factors, validation = hashlib.sha256(), (0, 0, 0), [], [], 0
        sixteen_bits: int | None = None
        with open(made / IMAGES, "wb") as file:
            for chunk in make():
                content = np.ascontiguousarray(chunk.images)
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
        _save(made / "labels.npy", labels)
        if factors:
            _save(made / "factors.npy", factors)
        manifest = {
            "shape": [sum(map(len, labels)), *shape],
            "sha256": digest.hexdigest(),
            "factors": bool(factors),
            "validation": validation,
            "sixteen_bits": sixteen_bits,
        }
        (made / MANIFEST).write_text(json.dumps(manifest))
        for number, old in enumerate(self.folder.parent.glob(f"{glob.escape(self.place.name)}-*")):
            os.rename(old, scratch / f"old{number}")  # removed with the scratch folder; who reads it keeps its files
        os.rename(made, self.folder)


def _save(path: Path, parts: Sequence[np.ndarray]) -> None:
    buffer = io.BytesIO()  # straight to a full disk, np.save fails with an error that does not say why
    np.save(buffer, np.concatenate(parts).astype(np.int64))
    path.write_bytes(buffer.getbuffer())


def read_store(folder: Path) -> Examples:
    """What a store holds.

    Raises:
        DataError: if it is damaged.
    """
    hint = f"delete {folder} to make it anew"
    with readable(folder / MANIFEST, "manifest", hint):
        manifest = json.loads((folder / MANIFEST).read_text())
        count, channels, height, width = manifest["shape"]
        shape, sha256, names = (count, channels, height, width), str(manifest["sha256"]), ["labels"]
        if manifest["factors"]:
            names.append("factors")
        largest = manifest.get("sixteen_bits")
        sixteen_bits = None if largest is None else int(largest)
        images = MemoryMap(folder / IMAGES, shape, sha256, hint=hint, sixteen_bits=sixteen_bits)
    arrays = []
    for name in names:
        with readable(folder / f"{name}.npy", "array", hint):
            arrays.append(torch.from_numpy(np.load(folder / f"{name}.npy", allow_pickle=False)))
            if len(arrays[-1]) != len(images) or arrays[-1].dtype != torch.int64:
                raise ValueError(f"{len(arrays[-1])} rows of {arrays[-1].dtype} for {len(images)} images")
    return Examples(images, *arrays)


def stores() -> list[Path]:
    """The folders of all stores in the cache."""
    return sorted(path.parent for path in cache_directory().glob(f"*/*/{MANIFEST}"))


def damage(folder: Path) -> str:
    """What is wrong with a store, its images hashed; an empty string if nothing is."""
    try:
        recorded = read_store(folder).images
    except DataError as error:
        return str(error)
    assert isinstance(recorded, MemoryMap)
    with open(folder / IMAGES, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    same = found == recorded.sha256
    return "" if same else f"{folder / IMAGES}: its SHA-256 is {found}, recorded was {recorded.sha256}; delete {folder}"


def version(path: Path) -> list[object]:
    """Plain values that change when a file does, without reading it.

    The time of the last change of its inode is among them, for what copies or unpacks files may set the other back.
    """
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def fingerprint(*parts: object) -> str:
    """Sixteen hexadecimal digits of `parts`, plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
