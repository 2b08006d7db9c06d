"""Sets larger than memory: a memory map served by the same path, while resident memory stays flat."""

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
"""Bytes of anonymous memory that the process may have beyond what importing took; the set is 1.2 GB."""

SERVE = """
import json, os, resource, sys
import torch
from nelbo.data import Augmentation, array_file
from nelbo.data.module import ImageData

torch.set_num_threads(1)

def resident() -> int:
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def held() -> int:
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))

path, limit, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (held() + limit,) * 2)
data = ImageData(
    name="large", source=lambda: array_file(path, 1000, 0), shape=None, levels=256, protocol="dynamic",
    augment=Augmentation(flip=True, pad_crop=0), batch_size=512, validation_size=1000, seed=0, shuffle=True,
    num_workers=0, order_seed=0,
)
data.setup()
before, peak, seen, total = resident(), 0, torch.zeros(count, dtype=torch.bool), 0
for number, batch in enumerate(data.train_dataloader()):
    images, _, where = batch
    assert not seen[where].any() and (images[:, 0, 0, 0].long() == where % 251).all()
    seen[where] = True
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
    """The first pixel tells the image; the others are holes, which take no room on disk."""
    path = tmp_path_factory.mktemp("large") / "large.npy"
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (COUNT, *SHAPE))
    array[:, 0, 0, 0] = np.arange(COUNT) % 251
    array.flush()
    return path


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and counts memory through Linux's /proc")
def test_memory_stays_flat_over_an_epoch_of_a_set_that_does_not_fit(large: Path) -> None:
    arguments = [str(large), str(LIMIT), str(COUNT)]
    done = subprocess.run([sys.executable, "-c", SERVE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["seen"] == COUNT - 2000
    assert not result["fits"]  # the limit is real
    assert result["grew"] < 320 << 20, result


def test_a_map_gives_what_the_array_holds(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 5), dtype=np.uint8)
    (tmp_path / "images.bin").write_bytes(b"head" + array.tobytes())
    with pytest.raises(DataError, match=f"{tmp_path / 'none'}: cannot be read .*; save it again"):
        MemoryMap(tmp_path / "none", array.shape, "digest", hint="save it again")
    with pytest.raises(DataError, match="the data set is empty"):
        MemoryMap(tmp_path / "images.bin", (0, 3, 4, 5), "digest", hint="save it again")
    images = MemoryMap(tmp_path / "images.bin", array.shape, "digest", offset=4, hint="save it again")
    assert images.shape == (50, 3, 4, 5) and len(images) == 50
    where = torch.tensor([49, 0, 7, 7])
    assert np.array_equal(images.index_select(0, where), array[where])
    images.index_select(0, where).zero_()  # a copy
    assert np.array_equal(images.index_select(0, where), array[where])
    with pytest.raises(ValueError, match="dimension 0, not 1"):
        images.index_select(1, where)
    again = pickle.loads(pickle.dumps(images))  # to a worker process that is not a fork
    assert np.array_equal(again.index_select(0, where), array[where]) and again.sha256 == "digest"
    for content in (b"", b"head", b"head" + array.tobytes()[1:]):
        (tmp_path / "images.bin").write_bytes(content)
        with pytest.raises(
            DataError, match=f"{tmp_path / 'images.bin'}: {len(content)} bytes where 3004 are expected; save it again"
        ):
            MemoryMap(tmp_path / "images.bin", array.shape, "digest", offset=4, hint="save it again")


def test_pages_that_were_handed_back_are_read_again(large: Path) -> None:
    images = array_file(str(large), 10, 0).train.images
    where = torch.arange(0, COUNT, 1000)
    for _ in range(2):
        assert (images.index_select(0, where)[:, 0, 0, 0].long() == where % 251).all()
