"""kill -9 at random steps and in the middle of writes: the resumed run equals one without kills."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.helpers.interrupted import assert_same_run, interrupted, run


@pytest.mark.parametrize(
    ("kills", "epochs"), [(3, 4), pytest.param(20, 24, marks=pytest.mark.slow)], ids=["3 kills", "20 kills"]
)
def test_kill9_train(tmp_path: Path, kills: int, epochs: int) -> None:
    """An epoch has six steps and two or three writes, so that most kills, but not all, come after some progress."""
    draw = random.Random(0)
    faults = [
        f"save:{draw.randint(2, 4)}:SIGKILL" if draw.random() < 0.5 else f"train:{draw.randint(4, 12)}:SIGKILL"
        for _ in range(kills)
    ]
    assert len({fault.split(":")[0] for fault in faults}) == 2
    overrides = [f"trainer.max_epochs={epochs}"]
    assert run(tmp_path / "whole", overrides).returncode == 0
    interrupted(tmp_path / "parts", overrides, faults)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert not list(tmp_path.rglob(".partial-*"))
