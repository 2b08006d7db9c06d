"""Images made once into one memory map in the cache, so that the next run starts at once and none is held in memory.

A store is a folder: `images.bin` (uint8, C order), `labels.npy`, `factors.npy` where there are factors, and
`manifest.json`, written last. It is made in a scratch folder and renamed, so it is there whole or not at all.

Shapes: N or B examples, C H W image, F factors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nelbo.data.arrays import Examples
from nelbo.data.fetch import workspace
from nelbo.data.memory_map import MemoryMap
from nelbo.errors import DataError

FORMAT = 1
NUMPY_HEADER = 128


@dataclass(frozen=True)
class Chunk:
    """Some images on their way into a store: uint8 (B, C, H, W), labels (B,), factors (B, F) where there are any."""

    images: np.ndarray
    labels: np.ndarray
    factors: np.ndarray | None = None


@dataclass
class Store:
    """Where a set is, or will be, made.

    Args:
        folder: in the cache.
        identity: everything that the content depends on; a store with another identity is made anew.
    """

    folder: Path
    identity: dict[str, Any]
    manifest: dict[str, Any] = field(default_factory=dict)

    def open(self, make: Callable[[], Iterator[Chunk]], num_bytes: int) -> Examples:
        """The examples, made first where they are not there.

        Args:
            make: yields chunks, all of one shape.
            num_bytes: that the images will take, checked against the free disk before anything is made.

        Raises:
            DataError: if it cannot be written, or is damaged.
        """
        if not self._current():
            with workspace(self.folder.parent) as scratch:
                if not self._current():  # another process may have made it while this one waited
                    self._make(make, num_bytes, scratch)
        examples = Examples(
            MemoryMap(self.folder / "images.bin", self.manifest["shape"], self.manifest["sha256"]),
            torch.from_numpy(self._array("labels")),
            torch.from_numpy(self._array("factors")) if self.manifest["factors"] else None,
        )
        if len(examples.labels) != len(examples):
            raise DataError(f"{self.folder}: {len(examples.labels)} labels for {len(examples)} images; delete it")
        return examples

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            array: np.ndarray = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: damaged; delete {self.folder} to make it anew") from error
        return array

    def _current(self) -> bool:
        """Whether the store is there, as this version of the code would make it."""
        path = self.folder / "manifest.json"
        if not path.exists():
            return False
        try:
            self.manifest = json.loads(path.read_text())
            return bool(self.manifest["format"] == FORMAT and self.manifest["identity"] == self.identity)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: damaged; delete {self.folder} to make it anew") from error

    def _make(self, make: Callable[[], Iterator[Chunk]], num_bytes: int, scratch: Path) -> None:
        free = shutil.disk_usage(scratch).free
        if num_bytes > free:
            raise DataError(f"{self.folder}: needs {num_bytes:,} bytes of disk, {free:,} are free; set NELBO_DATA")
        made = scratch / "store"
        made.mkdir()
        digest, shape, labels, factors = hashlib.sha256(), (0, 0, 0), [], []
        with open(made / "images.bin", "wb") as file:
            for chunk in make():
                content = np.ascontiguousarray(chunk.images)
                shape = content.shape[1:]
                file.write(content.data)
                digest.update(content.data)
                labels.append(chunk.labels)
                if chunk.factors is not None:
                    factors.append(chunk.factors)
            file.flush()
            os.fsync(file.fileno())
        if not labels:
            raise DataError(f"{self.folder.name}: the data set is empty")
        np.save(made / "labels.npy", np.concatenate(labels).astype(np.int64))
        if factors:
            np.save(made / "factors.npy", np.concatenate(factors).astype(np.int64))
        self.manifest = {
            "format": FORMAT,
            "identity": self.identity,
            "shape": [sum(map(len, labels)), *shape],
            "sha256": digest.hexdigest(),
            "factors": bool(factors),
        }
        (made / "manifest.json").write_text(json.dumps(self.manifest))
        if self.folder.exists():
            os.rename(self.folder, scratch / "old")  # one who reads it keeps its open files
        os.rename(made, self.folder)


def fingerprint(*parts: object) -> str:
    """Sixteen hexadecimal digits of `parts`, plain values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
