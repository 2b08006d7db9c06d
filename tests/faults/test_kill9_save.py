"""kill -9 while a checkpoint is written: the file of that name is always complete."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path

import pytest
import torch

from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.checkpoints.record import FORMAT, RECORD, read_checkpoint
from nelbo.files import PARTIAL, sweep_partial
from tests.helpers.children import Child
from tests.helpers.processes import alive, wait_for

KILLS = 40


def test_kill9_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With $TMPDIR on another file system, from which a rename is a copy."""
    if os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev:
        monkeypatch.setenv("TMPDIR", "/dev/shm")
    file = tmp_path / "last.ckpt"

    def save_repeatedly() -> None:
        for step in itertools.count():
            weights = {"weight": torch.full((1 << 20,), float(step))}
            AtomicCheckpointIO().save_checkpoint({"state_dict": weights, RECORD: {"format": FORMAT}}, file)

    draw = random.Random(0)
    partial = 0
    for _ in range(KILLS):
        file.unlink(missing_ok=True)
        child = Child(save_repeatedly)
        wait_for(lambda pid=child.pid: file.exists() or not alive(pid), seconds=60, interval=0.001)
        assert file.exists(), child.wait()
        time.sleep(draw.uniform(0, 0.03))
        child.kill()
        weight = read_checkpoint(file)["state_dict"]["weight"]
        assert (weight == weight[0]).all()
        partial += bool(list(tmp_path.glob(f"{PARTIAL}*")))
        sweep_partial(tmp_path, ["*.ckpt"])
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert partial > KILLS / 4  # otherwise too few kills hit a write
