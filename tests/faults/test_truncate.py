"""A truncated checkpoint is rejected in one line, wherever it is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nelbo.checkpoints.record import read_checkpoint
from nelbo.errors import CheckpointError
from tests.helpers.damage import finished_run

__all__ = ["finished_run"]
CUTS = 200


def test_truncate(finished_run: Path, tmp_path: Path) -> None:
    whole = (finished_run / "checkpoints" / "last.ckpt").read_bytes()
    file = tmp_path / "last.ckpt"
    file.write_bytes(whole)
    read_checkpoint(file)
    draw = random.Random(0)
    for cut in (0, 1, len(whole) - 1, *draw.sample(range(len(whole)), CUTS - 3)):
        file.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError) as refused:
            read_checkpoint(file)
        assert str(refused.value).startswith(f"{file}: not a readable checkpoint") and "\n" not in str(refused.value)
