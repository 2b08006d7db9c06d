"""kill -9 while a checkpoint is written: the file of that name is always a whole one."""

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

KILLS = 40


def test_kill9_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With $TMPDIR on another file system, from which a rename would be a copy."""
    if os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(tmp_path).st_dev:
        monkeypatch.setenv("TMPDIR", "/dev/shm")
    file = tmp_path / "last.ckpt"

    def save_for_ever() -> None:
        for step in itertools.count():
            weights = {"weight": torch.full((1 << 20,), float(step))}
            AtomicCheckpointIO().save_checkpoint({"state_dict": weights, RECORD: {"format": FORMAT}}, file)

    draw = random.Random(0)
    torn = 0
    for _ in range(KILLS):
        file.unlink(missing_ok=True)
        child = Child(save_for_ever)
        while not file.exists():
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.03))
        child.kill()
        weight = read_checkpoint(file)["state_dict"]["weight"]
        assert (weight == weight[0]).all()
        torn += bool(list(tmp_path.glob(f"{PARTIAL}*")))
        sweep_partial(tmp_path, ["*.ckpt"])
        assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torn > KILLS / 4  # or they were not killed while they wrote
