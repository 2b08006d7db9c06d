"""Data sets larger than memory: memory maps, and the resident memory of a process that reads one."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nelbo.data import array_file
from nelbo.data.memory_map import MemoryMap
from nelbo.errors import DataError

COUNT, SHAPE = 300_000, (1, 64, 64)
LIMIT = 512 << 20
"""Bytes of memory that the process may allocate after its imports; the data set has 1.2 GB."""

READ_ONE_EPOCH = """
import json, os, resource, sys
import torch
from nelbo.data import Augmentation, array_file
from nelbo.data.module import ImageData

torch.set_num_threads(1)

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def allocated() -> int:
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))

path, limit, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (allocated() + limit,) * 2)
data = ImageData(
    name="large", source=lambda: array_file(path, 1000, 0), shape=None, levels=256, protocol="dynamic",
    augment=Augmentation(flip=True, pad_crop=0), batch_size=512, validation_size=1000, seed=0, shuffle=True,
    num_workers=0, order_seed=0,
)
data.setup()
before, peak, seen, total = resident(), 0, torch.zeros(count, dtype=torch.bool), 0
for number, batch in enumerate(data.train_dataloader()):
    images, _, positions, _ = batch
    assert not seen[positions].any() and (images[:, 0, 0, 0].long() == positions % 251).all()
    seen[positions] = True
    if number % 20 == 0:
        data.present("train", batch, 0)
        peak = max(peak, resident())
try:
    open(path, "rb").read()
    fits = True
except MemoryError:
    fits = False
print(json.dumps({"grew": peak - before, "seen": int(seen.sum()), "fits": fits}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of images that the first pixel identifies; the others are holes, which take no disk space."""
    path = tmp_path_factory.mktemp("large") / "large.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (COUNT, *SHAPE))
    array[:, 0, 0, 0] = np.arange(COUNT) % 251
    array.flush()
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc to measure memory")
def test_resident_memory_does_not_grow_with_the_images_read(large: Path) -> None:
    command = [sys.executable, "-c", READ_ONE_EPOCH, str(large), str(LIMIT), str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["seen"] == COUNT - 2000
    assert not result["fits"]  # the limit has an effect: the whole file cannot be read into memory
    assert result["grew"] < 320 << 20, result


def test_a_memory_map_returns_the_images_of_the_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    (tmp_path / "images.bin").write_bytes(b"head" + array.tobytes())
    with pytest.raises(DataError, match=f"{tmp_path / 'none'}: cannot be read .*; save it again"):
        MemoryMap(tmp_path / "none", array.shape, "digest", hint="save it again")
    with pytest.raises(DataError, match="the data set is empty"):
        MemoryMap(tmp_path / "images.bin", (0, 3, 4, 5), "digest", hint="save it again")
    images = MemoryMap(tmp_path / "images.bin", array.shape, "digest", offset=4, hint="save it again")
    assert images.shape == (50, 3, 4, 5) and len(images) == 50
    index = torch.tensor([49, 0, 7, 7])
    assert np.array_equal(images.index_select(0, index), array[index])
    images.index_select(0, index).zero_()  # a copy
    assert np.array_equal(images.index_select(0, index), array[index])
    with pytest.raises(ValueError, match="dimension 0, not 1"):
        images.index_select(1, index)
    unpickled = pickle.loads(pickle.dumps(images))  # as for a worker process that is not forked
    assert np.array_equal(unpickled.index_select(0, index), array[index]) and unpickled.sha256 == "digest"
    for content in (b"", b"head", b"head" + array.tobytes()[1:]):
        (tmp_path / "images.bin").write_bytes(content)
        message = f"{tmp_path / 'images.bin'}: {len(content)} bytes where 3004 are expected; save it again"
        with pytest.raises(DataError, match=message):
            MemoryMap(tmp_path / "images.bin", array.shape, "digest", offset=4, hint="save it again")


def test_pages_that_were_released_are_read_again(large: Path) -> None:
    images = array_file(str(large), 10, 0).train.images
    index = torch.arange(0, COUNT, 1000)
    for _ in range(2):
        assert (images.index_select(0, index)[:, 0, 0, 0].long() == index % 251).all()
