"""A run with five interruptions equals one without."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.interrupted import assert_same_run, interrupted, run

FAULTS = ("train:4:SIGTERM", "train:2:SIGTERM", "validation:2:SIGTERM", "train:1:SIGTERM", "train:3:SIGKILL")


def test_resume_chain(tmp_path: Path) -> None:
    epochs = ["trainer.max_epochs=4", "data.num_workers=2"]
    assert run(tmp_path / "whole", epochs).returncode == 0
    interrupted(tmp_path / "parts", epochs, FAULTS)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
